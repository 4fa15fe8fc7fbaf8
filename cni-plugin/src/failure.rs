//! An error as CNI tells it ("Error": cniVersion, code, msg, details).
use agent_api::{code, v1::CniError};
use serde_json::json;

/// What went wrong, by CNI's code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), details: String::new() }
    }

    /// Reading or writing failed.
    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Failure {
        Failure::new(code::IO, format!("{doing}: {error}"))
    }

    /// The JSON for standard output.
    pub(crate) fn to_json(&self, version: &str) -> String {
        let mut object = json!({"cniVersion": version, "code": self.code, "msg": self.message});
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object.to_string()
    }
}

impl From<CniError> for Failure {
    fn from(error: CniError) -> Failure {
        Failure { code: error.code, message: error.msg, details: error.details }
    }
}
