//! The network configuration from standard input: what this program reads of it. The rest goes to the agent as it is.
use std::time::Duration;

use agent_api::code;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{VERSIONS, environment::Command, failure::Failure};

/// How long the agent may take, if the configuration does not say. A runtime gives up after minutes; a pod that waits
/// for its policy needs seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An attachment that GC must keep.
#[derive(Debug, Deserialize)]
pub(crate) struct Attachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    pub(crate) ifname: String,
}

/// The fields that we know.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) cni_version: String,
    #[serde(default)]
    name: String,
    pub(crate) prev_result: Option<Box<RawValue>>,
    #[serde(rename = "cni.dev/valid-attachments")]
    pub(crate) valid: Option<Vec<Attachment>>,
    /// The agent's socket; ours.
    #[serde(default = "default_socket")]
    pub(crate) socket: String,
    /// Ours.
    timeout_seconds: Option<u64>,
}

fn default_socket() -> String {
    agent_api::SOCKET.to_owned()
}

impl Config {
    /// From JSON.
    pub(crate) fn parse(input: &[u8]) -> Result<Config, Failure> {
        serde_json::from_slice(input).map_err(|error| {
            Failure::new(code::DECODE, format!("the network configuration on standard input: {error}"))
        })
    }

    /// Refuses what the command cannot work with.
    pub(crate) fn check(&self, command: Command) -> Result<(), Failure> {
        if !VERSIONS.contains(&self.cni_version.as_str()) {
            let text =
                format!("cniVersion {:?} is not supported, use one of {}", self.cni_version, VERSIONS.join(", "));
            return Err(Failure::new(code::INCOMPATIBLE_VERSION, text));
        }
        if self.name.is_empty() {
            return Err(Failure::new(code::INVALID_CONFIG, "the network configuration has no name"));
        }
        let since = match command {
            Command::Check => "0.4.0",
            Command::Gc | Command::Status => "1.1.0",
            _ => return Ok(()),
        };
        // The versions that we take sort as text.
        if self.cni_version.as_str() < since {
            let text = format!("cniVersion {} has no such command, it came with {since}", self.cni_version);
            return Err(Failure::new(code::INCOMPATIBLE_VERSION, text));
        }
        Ok(())
    }

    /// How long to wait for the agent.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout_seconds.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.clamp(1, 300)))
    }
}

/// The version that a VERSION call asks in; the newest if it says nothing usable.
pub(crate) fn version_of(input: &[u8]) -> String {
    let object: Option<serde_json::Value> = serde_json::from_slice(input).ok();
    let asked = object.as_ref().and_then(|object| object["cniVersion"].as_str());
    asked.filter(|asked| VERSIONS.contains(asked)).unwrap_or(VERSIONS[VERSIONS.len() - 1]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, command: Command, expected: Option<u32>) {
        let found = Config::parse(json.as_bytes()).and_then(|config| config.check(command));
        assert_eq!(found.err().map(|failure| failure.code), expected, "{json}");
    }

    #[test]
    fn configurations() {
        check(r#"{"cniVersion":"1.1.0","name":"weft"}"#, Command::Add, None);
        check(r#"{"cniVersion":"0.3.1","name":"weft"}"#, Command::Del, None);
        check(r#"{"cniVersion":"0.2.0","name":"weft"}"#, Command::Add, Some(code::INCOMPATIBLE_VERSION));
        check(r#"{"cniVersion":"1.1.0"}"#, Command::Add, Some(code::INVALID_CONFIG));
        check(r#"{"cniVersion":"1.0.0","name":"weft"}"#, Command::Gc, Some(code::INCOMPATIBLE_VERSION));
        check(r#"{"cniVersion":"0.3.1","name":"weft"}"#, Command::Check, Some(code::INCOMPATIBLE_VERSION));
        check("{", Command::Add, Some(code::DECODE));
        check(r#"{"name":"weft"}"#, Command::Add, Some(code::DECODE));
    }

    #[test]
    fn version_answers_in_the_version_asked() {
        assert_eq!(version_of(br#"{"cniVersion":"0.4.0"}"#), "0.4.0");
        assert_eq!(version_of(br#"{"cniVersion":"9.9.9"}"#), "1.1.0");
        assert_eq!(version_of(b""), "1.1.0");
    }
}
