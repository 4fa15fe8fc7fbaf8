//! The CNI_ variables, strictly: what is missing, wrong or dangerous in a path is refused with code 4.
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Component, Path},
};

use agent_api::code;

use crate::failure::Failure;

/// How variables are looked up.
pub(crate) type Vars<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// `CNI_COMMAND`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Make an interface.
    Add,
    /// Remove it.
    Del,
    /// Is it as ADD made it?
    Check,
    /// Release what is not listed.
    Gc,
    /// Would ADD succeed?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Command {
    /// From the environment.
    pub(crate) fn read(vars: Vars) -> Result<Command, Failure> {
        Ok(match required(vars, "CNI_COMMAND")?.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => {
                let details = format!("{other:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION");
                return Err(invalid("CNI_COMMAND is not known", details));
            }
        })
    }
}

/// What the runtime says about the interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Environment {
    /// What to do.
    pub(crate) command: Command,
    /// Empty for GC and STATUS.
    pub(crate) container_id: String,
    /// Empty for GC and STATUS; may be empty for DEL.
    pub(crate) netns: String,
    /// Empty for GC and STATUS.
    pub(crate) ifname: String,
    /// `CNI_ARGS`.
    pub(crate) args: BTreeMap<String, String>,
}

impl Environment {
    /// From the environment.
    pub(crate) fn read(command: Command, vars: Vars) -> Result<Environment, Failure> {
        let mut environment = Environment {
            command,
            container_id: String::new(),
            netns: String::new(),
            ifname: String::new(),
            args: BTreeMap::new(),
        };
        if matches!(command, Command::Gc | Command::Status | Command::Version) {
            return Ok(environment);
        }
        environment.container_id = container_id(required(vars, "CNI_CONTAINERID")?)?;
        environment.ifname = ifname(required(vars, "CNI_IFNAME")?)?;
        environment.netns = match command {
            Command::Del => text(vars, "CNI_NETNS")?.unwrap_or_default(),
            _ => netns(required(vars, "CNI_NETNS")?)?,
        };
        environment.args = args(&text(vars, "CNI_ARGS")?.unwrap_or_default())?;
        Ok(environment)
    }
}

fn text(vars: Vars, name: &str) -> Result<Option<String>, Failure> {
    let text = vars(name).map(OsString::into_string).transpose();
    text.map_err(|_| invalid(format!("{name} is not UTF-8"), "")).map(|text| text.filter(|text| !text.is_empty()))
}

fn required(vars: Vars, name: &str) -> Result<String, Failure> {
    text(vars, name)?.ok_or_else(|| invalid(format!("{name} is missing"), "the runtime must set it"))
}

/// Starts with a letter or digit, goes on with these or `.`, `_`, `-` (specification, "Parameters").
fn container_id(id: String) -> Result<String, Failure> {
    let rest = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if rest && id.as_bytes()[0].is_ascii_alphanumeric() && id.len() <= 255 {
        return Ok(id);
    }
    Err(invalid("CNI_CONTAINERID is not valid", format!("{id:?}")))
}

/// As the kernel wants names: at most 15 bytes, no `/`, no `:`, no space, not `.` or `..`.
fn ifname(name: String) -> Result<String, Failure> {
    let bad = |b: u8| matches!(b, b'/' | b':') || b.is_ascii_whitespace() || b.is_ascii_control();
    if name.len() <= 15 && !name.bytes().any(bad) && name != "." && name != ".." {
        return Ok(name);
    }
    Err(invalid("CNI_IFNAME is not valid", format!("{name:?}")))
}

fn netns(path: String) -> Result<String, Failure> {
    let checked = Path::new(&path);
    if checked.is_absolute() && !checked.components().any(|part| part == Component::ParentDir) {
        return Ok(path);
    }
    Err(invalid("CNI_NETNS is not an absolute path", format!("{path:?}")))
}

/// `KEY=VALUE;KEY=VALUE`.
fn args(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let pair = pair.split_once('=').filter(|(key, _)| !key.is_empty());
            pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("CNI_ARGS is not KEY=VALUE;KEY=VALUE", format!("{text:?}")))
}

fn invalid(msg: impl Into<String>, details: impl Into<String>) -> Failure {
    Failure::new(code::INVALID_ENVIRONMENT, msg, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Environment, Failure> {
        let vars: BTreeMap<&str, &str> = vars.iter().copied().collect();
        let look = move |name: &str| vars.get(name).map(OsString::from);
        let command = Command::read(&look)?;
        Environment::read(command, &look)
    }

    #[track_caller]
    fn check(changes: &[(&str, &str)], expected: Result<(), &str>) {
        let mut vars = vec![
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "abc-1"),
            ("CNI_NETNS", "/run/netns/x"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p"),
        ];
        vars.extend_from_slice(changes);
        let result = read(&vars);
        assert_eq!(result.as_ref().map(|_| ()).map_err(|failure| failure.msg.as_str()), expected);
        if let Err(failure) = result {
            assert_eq!(failure.code, code::INVALID_ENVIRONMENT);
        }
    }

    #[test]
    fn what_a_runtime_sets() {
        check(&[], Ok(()));
        check(&[("CNI_COMMAND", "")], Err("CNI_COMMAND is missing"));
        check(&[("CNI_COMMAND", "add")], Err("CNI_COMMAND is not known"));
        check(&[("CNI_CONTAINERID", "")], Err("CNI_CONTAINERID is missing"));
        check(&[("CNI_CONTAINERID", "../x")], Err("CNI_CONTAINERID is not valid"));
        check(&[("CNI_CONTAINERID", "-x")], Err("CNI_CONTAINERID is not valid"));
        check(&[("CNI_IFNAME", "a/b")], Err("CNI_IFNAME is not valid"));
        check(&[("CNI_IFNAME", "sixteen-letters-")], Err("CNI_IFNAME is not valid"));
        check(&[("CNI_IFNAME", "..")], Err("CNI_IFNAME is not valid"));
        check(&[("CNI_NETNS", "")], Err("CNI_NETNS is missing"));
        check(&[("CNI_NETNS", "netns")], Err("CNI_NETNS is not an absolute path"));
        check(&[("CNI_ARGS", "x")], Err("CNI_ARGS is not KEY=VALUE;KEY=VALUE"));
        check(&[("CNI_ARGS", "")], Ok(()));
        check(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")], Ok(()));
        check(&[("CNI_COMMAND", "GC"), ("CNI_IFNAME", "")], Ok(()));
    }
}
