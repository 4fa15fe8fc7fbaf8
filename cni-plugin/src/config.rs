//! The network configuration on standard input.
use std::path::PathBuf;

use agent_api::{code, v1::cni_gc_request::Attachment};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::Failure;

/// Versions that are spoken.
pub(crate) const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them.
pub(crate) const NEWEST: &str = "1.1.0";

/// A network configuration.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Config {
    /// `cniVersion`, one of [`VERSIONS`].
    pub(crate) version: String,
    /// Our own `socket`.
    pub(crate) socket: Option<PathBuf>,
    /// `dns`, handed on in the result.
    pub(crate) dns: Value,
    /// `prevResult`.
    pub(crate) previous: Value,
    /// `cni.dev/valid-attachments`, for GC.
    pub(crate) valid: Vec<Attachment>,
    /// As it came.
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    cni_version: String,
    #[serde(default)]
    name: String,
    r#type: String,
    socket: Option<PathBuf>,
    #[serde(default)]
    dns: Value,
    #[serde(default)]
    prev_result: Value,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Vec<WireAttachment>,
}

#[derive(Deserialize)]
struct WireAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl Config {
    /// From JSON.
    pub(crate) fn parse(text: &str) -> Result<Config, Failure> {
        let wire: Wire = serde_json::from_str(text).map_err(|error| {
            Failure::new(code::DECODE, "standard input is no network configuration", error.to_string())
        })?;
        let version = if wire.cni_version.is_empty() { "0.1.0".to_owned() } else { wire.cni_version };
        if !VERSIONS.contains(&version.as_str()) {
            let details = format!("{version:?} is none of {}", VERSIONS.join(", "));
            return Err(Failure::new(code::INCOMPATIBLE_VERSION, "cniVersion is not supported", details));
        }
        if wire.name.is_empty() || wire.r#type.is_empty() {
            let details = "name and type must not be empty";
            return Err(Failure::new(code::INVALID_CONFIG, "the network configuration is not valid", details));
        }
        if wire.socket.as_ref().is_some_and(|socket| !socket.is_absolute()) {
            return Err(Failure::new(code::INVALID_CONFIG, "socket is not an absolute path", ""));
        }
        let attachment = |a: WireAttachment| Attachment { container_id: a.container_id, ifname: a.ifname };
        let valid = wire.valid.into_iter().map(attachment).collect();
        let (socket, dns, previous) = (wire.socket, wire.dns, wire.prev_result);
        Ok(Config { version, socket, dns, previous, valid, text: text.to_owned() })
    }
}

/// The version that an answer to this input is in, however broken the rest of it is.
pub(crate) fn spoken(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let version = value["cniVersion"].as_str().filter(|version| VERSIONS.contains(version));
    version.unwrap_or(NEWEST).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, u32>) {
        let parsed = Config::parse(text);
        assert_eq!(parsed.as_ref().map(|config| config.version.as_str()).map_err(|failure| failure.code), expected);
    }

    #[test]
    fn parsed_or_refused() {
        check(r#"{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","socket":"/run/s"}"#, Ok("1.1.0"));
        check(r#"{"cniVersion":"0.3.1","name":"weft","type":"weft-cni","unknown":[1]}"#, Ok("0.3.1"));
        check(r#"{"cniVersion":"0.2.0","name":"weft","type":"weft-cni"}"#, Err(code::INCOMPATIBLE_VERSION));
        check(r#"{"name":"weft","type":"weft-cni"}"#, Err(code::INCOMPATIBLE_VERSION));
        check(r#"{"cniVersion":"1.1.0","name":"","type":"weft-cni"}"#, Err(code::INVALID_CONFIG));
        check(r#"{"cniVersion":"1.1.0","name":"w","type":"t","socket":"s"}"#, Err(code::INVALID_CONFIG));
        check(r#"{"cniVersion":"1.1.0"}"#, Err(code::DECODE));
        check("", Err(code::DECODE));
        check("[]", Err(code::DECODE));
    }

    #[test]
    fn attachments_of_gc() {
        let text = r#"{"cniVersion":"1.1.0","name":"w","type":"t",
            "cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}"#;
        assert_eq!(Config::parse(text).expect("valid").valid[0].container_id, "a");
    }
}
