//! The network configuration on standard input: what is missing, wrong or not supported is named with its remedy.
//!
//! Unknown fields are none of our business (specification, section 1), but a field that promises what this plugin does not
//! do (`ipam`, capabilities that are not ours) is refused instead of being ignored.
use std::{path::PathBuf, time::Duration};

use agent_api::{code, v1::cni_gc_request::Attachment};
use serde_json::{Map, Value};

use crate::{environment::Command, failure::Failure, previous};

/// Versions that are spoken.
pub(crate) const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest of them.
pub(crate) const NEWEST: &str = "1.1.0";
/// What the runtime wants to keep, in a GC's configuration.
const VALID: &str = "cni.dev/valid-attachments";
/// Capabilities that the agent grants; it also says what is wrong with their values.
const CAPABILITIES: [&str; 4] = ["ips", "mac", "portMappings", "bandwidth"];
/// Seconds for a call, if `timeoutSeconds` says nothing: less than a container runtime's patience with a sandbox.
const TIMEOUT: u64 = 30;

/// A network configuration.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Config {
    /// `cniVersion`, one of [`VERSIONS`].
    pub(crate) version: String,
    /// Our own `socket`.
    pub(crate) socket: Option<PathBuf>,
    /// Our own `timeoutSeconds`: for the whole call.
    pub(crate) timeout: Duration,
    /// `dns`, handed on in the result.
    pub(crate) dns: Value,
    /// `prevResult`: an object, or null.
    pub(crate) previous: Value,
    /// `cni.dev/valid-attachments`, for GC; absent if it is not given, which is not the same as none.
    pub(crate) valid: Option<Vec<Attachment>>,
    /// As it came.
    pub(crate) text: String,
}

impl Config {
    /// From JSON.
    pub(crate) fn parse(text: &str) -> Result<Config, Failure> {
        let not_json = "standard input is no network configuration";
        let value: Value =
            serde_json::from_str(text).map_err(|error| Failure::new(code::DECODE, not_json, error.to_string()))?;
        let Value::Object(fields) = value else {
            return Err(Failure::new(code::DECODE, not_json, "it is no JSON object"));
        };
        let version = match string(&fields, "cniVersion")? {
            "" => "0.1.0".to_owned(),
            version => version.to_owned(),
        };
        if !VERSIONS.contains(&version.as_str()) {
            let details =
                format!("{version:?} is none of {}; a configuration without one means 0.1.0", VERSIONS.join(", "));
            return Err(Failure::new(code::INCOMPATIBLE_VERSION, "cniVersion is not supported", details));
        }
        name(string(&fields, "name")?)?;
        if string(&fields, "type")?.is_empty() {
            return Err(invalid("type is missing", "it names the plugin's program: weft-cni"));
        }
        unsupported(&fields)?;
        let previous = fields.get("prevResult").cloned().unwrap_or_default();
        previous::check(&previous)?;
        Ok(Config {
            version,
            socket: socket(string(&fields, "socket")?)?,
            timeout: timeout(fields.get("timeoutSeconds"))?,
            dns: fields.get("dns").cloned().unwrap_or_default(),
            previous,
            valid: fields.get(VALID).map(attachments).transpose()?,
            text: text.to_owned(),
        })
    }

    /// What a command needs beyond what each does, and since when it exists.
    pub(crate) fn suits(&self, command: Command) -> Result<(), Failure> {
        let (name, since) = match command {
            Command::Check => ("CHECK", "0.4.0"),
            Command::Gc => ("GC", "1.1.0"),
            Command::Status => ("STATUS", "1.1.0"),
            Command::Add | Command::Del | Command::Version => return Ok(()),
        };
        let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
        if place(&self.version) < place(since) {
            let details = format!("{name} exists since {since}, and cniVersion is {}", self.version);
            return Err(Failure::new(code::INCOMPATIBLE_VERSION, "cniVersion does not allow this command", details));
        }
        if command == Command::Check && self.previous.is_null() {
            return Err(invalid("prevResult is missing", "CHECK compares with it: pass the result of ADD"));
        }
        if command == Command::Gc && self.valid.is_none() {
            let details = "GC releases what it does not list; an empty list releases everything";
            return Err(invalid(format!("{VALID} is missing"), details));
        }
        Ok(())
    }
}

/// A field's text; empty if it is not there.
fn string<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Failure> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(invalid(format!("{name} is no string"), other.to_string())),
    }
}

/// Starts with a letter or digit, goes on with these or `_`, `.`, `-` (specification, section 1).
fn name(name: &str) -> Result<(), Failure> {
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    match name.bytes().next() {
        None => Err(invalid("name is missing", "a network has a name that is its own on the machine")),
        Some(first) if first.is_ascii_alphanumeric() && rest => Ok(()),
        Some(_) => {
            Err(invalid("name is not valid", format!("{name:?}: letters, digits, `_`, `.`, `-`, and no sign first")))
        }
    }
}

fn socket(path: &str) -> Result<Option<PathBuf>, Failure> {
    match path {
        "" => Ok(None),
        path if path.starts_with('/') => Ok(Some(path.into())),
        path => {
            Err(invalid("socket is not an absolute path", format!("{path:?}: write for example {}", agent_api::SOCKET)))
        }
    }
}

fn timeout(value: Option<&Value>) -> Result<Duration, Failure> {
    let seconds = value.map_or(Some(TIMEOUT), Value::as_u64).filter(|seconds| (1..=600).contains(seconds));
    let told = || format!("{}: write whole seconds, 1 to 600", value.cloned().unwrap_or_default());
    seconds.map(Duration::from_secs).ok_or_else(|| invalid("timeoutSeconds is not valid", told()))
}

fn attachments(value: &Value) -> Result<Vec<Attachment>, Failure> {
    let wrong = || invalid(format!("{VALID} is not valid"), "it is a list of objects with containerID and ifname");
    let text = |entry: &Value, name: &str| entry[name].as_str().map(str::to_owned);
    let one =
        |entry: &Value| Some(Attachment { container_id: text(entry, "containerID")?, ifname: text(entry, "ifname")? });
    value.as_array().ok_or_else(wrong)?.iter().map(|entry| one(entry).ok_or_else(wrong)).collect()
}

/// Fields that promise what is not done here. The message names key and value, as code 2 demands.
fn unsupported(fields: &Map<String, Value>) -> Result<(), Failure> {
    let refused = |key: &str, value: &Value, remedy: &str| {
        let details = format!("{key}: {value}; {remedy}");
        Failure::new(code::UNSUPPORTED_FIELD, format!("{key} is not supported"), details)
    };
    if let Some(ipam) = fields.get("ipam").filter(|ipam| ipam["type"].is_string()) {
        return Err(refused("ipam", ipam, "addresses come from the Node's spec.podCIDR: remove the field"));
    }
    let granted = fields.get("runtimeConfig").and_then(Value::as_object).into_iter().flatten();
    match granted.into_iter().find(|(key, value)| !CAPABILITIES.contains(&key.as_str()) && !is_empty(value)) {
        Some((key, value)) => {
            let remedy = "remove it from the plugin's capabilities, or chain a plugin that has it";
            Err(refused(&format!("runtimeConfig.{key}"), value, remedy))
        }
        None => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn invalid(msg: impl Into<String>, details: impl Into<String>) -> Failure {
    Failure::new(code::INVALID_CONFIG, msg, details)
}

/// The version that an answer to this input is in, however broken the rest of it is.
pub(crate) fn spoken(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let version = value["cniVersion"].as_str().filter(|version| VERSIONS.contains(version));
    version.unwrap_or(NEWEST).to_owned()
}

#[cfg(test)]
mod tests;
