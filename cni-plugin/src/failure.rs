//! Errors in CNI's own form (specification, "Error").
use serde_json::json;

/// What went wrong, in CNI's terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// One of `agent_api::code`.
    pub(crate) code: u32,
    /// A short sentence.
    pub(crate) msg: String,
    /// More, or empty.
    pub(crate) details: String,
}

impl Failure {
    /// A failure.
    pub(crate) fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Failure {
        Failure { code, msg: msg.into(), details: details.into() }
    }

    /// As it is printed.
    pub(crate) fn json(&self, version: &str) -> String {
        let mut error = json!({ "cniVersion": version, "code": self.code, "msg": self.msg });
        if !self.details.is_empty() {
            error["details"] = self.details.as_str().into();
        }
        error.to_string() + "\n"
    }
}
