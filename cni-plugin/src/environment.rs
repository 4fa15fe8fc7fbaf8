//! What the runtime says by environment, checked as the specification asks ("Parameters", error code 4).
use std::collections::HashMap;

use agent_api::code;

use crate::failure::Failure;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) command: Command,
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: HashMap<String, String>,
}

impl Environment {
    /// Reads and checks the variables that the command needs.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Environment, Failure> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let name = get("CNI_COMMAND").unwrap_or_default();
        let command = match name.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => return Err(wrong("CNI_COMMAND", other, "one of ADD, DEL, CHECK, GC, STATUS, VERSION")),
        };
        let mut environment = Environment {
            command,
            container_id: get("CNI_CONTAINERID").unwrap_or_default(),
            netns: get("CNI_NETNS").unwrap_or_default(),
            ifname: get("CNI_IFNAME").unwrap_or_default(),
            args: HashMap::new(),
        };
        if matches!(command, Command::Add | Command::Del | Command::Check) {
            environment.args = arguments(&get("CNI_ARGS").unwrap_or_default())?;
            environment.check()?;
        }
        Ok(environment)
    }

    fn check(&self) -> Result<(), Failure> {
        let id = &self.container_id;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(plain) {
            return Err(wrong("CNI_CONTAINERID", id, "letters, digits, '_', '.', '-', and a letter or digit first"));
        }
        let name = &self.ifname;
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.chars().any(odd) {
            return Err(wrong(
                "CNI_IFNAME",
                name,
                "an interface name of 1 to 15 characters without '/', ':' and spaces",
            ));
        }
        // DEL must succeed when the namespace is gone, and then it may not be named.
        if self.netns.is_empty() && self.command != Command::Del {
            return Err(wrong("CNI_NETNS", "", "the path of the container's network namespace"));
        }
        Ok(())
    }
}

/// `K=V;K=V`.
fn arguments(text: &str) -> Result<HashMap<String, String>, Failure> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(wrong("CNI_ARGS", pair, "KEY=VALUE pairs with ';' between them")),
    });
    split.collect()
}

fn wrong(variable: &str, value: &str, expected: &str) -> Failure {
    let message = format!("{variable} is {value:?}, expected {expected}");
    Failure::new(code::INVALID_ENVIRONMENT, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc-1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAME=a;IgnoreUnknown=1"),
    ];

    /// `GOOD` with some variables replaced; the variable that the error names, or none.
    #[track_caller]
    fn check(changes: &[(&str, &str)], named: Option<&str>) {
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let found = Environment::read(|name| find(changes, name).or_else(|| find(&GOOD, name)));
        match (found, named) {
            (Ok(_), None) => {}
            (Err(failure), Some(name)) => {
                assert_eq!(failure.code, code::INVALID_ENVIRONMENT);
                assert!(failure.message.starts_with(name), "{}", failure.message);
            }
            (found, named) => panic!("{found:?}, expected {named:?}"),
        }
    }

    #[test]
    fn variables() {
        check(&[], None);
        check(&[("CNI_COMMAND", "add")], Some("CNI_COMMAND"));
        check(&[("CNI_CONTAINERID", "")], Some("CNI_CONTAINERID"));
        check(&[("CNI_CONTAINERID", "-a")], Some("CNI_CONTAINERID"));
        check(&[("CNI_CONTAINERID", "a/b")], Some("CNI_CONTAINERID"));
        check(&[("CNI_IFNAME", "a-name-of-16-ch.")], Some("CNI_IFNAME"));
        check(&[("CNI_IFNAME", "..")], Some("CNI_IFNAME"));
        check(&[("CNI_IFNAME", "a b")], Some("CNI_IFNAME"));
        check(&[("CNI_NETNS", "")], Some("CNI_NETNS"));
        check(&[("CNI_NETNS", ""), ("CNI_COMMAND", "DEL")], None);
        check(&[("CNI_ARGS", "novalue")], Some("CNI_ARGS"));
        check(&[("CNI_ARGS", "")], None);
        check(&[("CNI_COMMAND", "GC"), ("CNI_CONTAINERID", ""), ("CNI_IFNAME", "")], None);
    }
}
