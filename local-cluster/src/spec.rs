//! What a local cluster is: its name, its size, its ports, and the addresses that follow from them.
//!
//! Pure. Written to `cluster.json` on the first start and read back by the supervisor, `down` and every command that
//! names a cluster.

use serde::{Deserialize, Serialize};

use crate::family::IpFamily;

/// The name of the cluster when none is given; the only one with well-known ports.
pub const DEFAULT_NAME: &str = "weft";
/// Most nodes that one machine's fabric numbers.
pub const MAX_NODES: u8 = 10;
/// The API server's port on node-1's own address.
pub const API_PORT: u16 = 6443;

/// A host port on 127.0.0.1 that leads to a NodePort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Port on the host's 127.0.0.1; 0 takes any free one.
    pub host: u16,
    /// NodePort on node-1.
    pub node: u16,
}

/// A cluster as asked for; with real ports once it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Names paths, cgroups and default ports.
    pub name: String,
    /// Number of nodes, 1 to 10.
    pub nodes: u8,
    /// Port of the API server on the host's 127.0.0.1; 0 takes any free one.
    pub api_port: u16,
    /// Published NodePorts.
    pub publish: Vec<Publish>,
    /// Families of pods, Services and nodes. Files of earlier builds do not say: IPv4.
    #[serde(default)]
    pub ip_family: IpFamily,
    /// Flags that every node's agent gets besides. Files of earlier builds have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_args: Vec<String>,
}

/// What is wrong with a `Spec`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name is no path or cgroup name.
    #[error("cluster name {0:?}: use 1 to 20 lower-case letters, digits and dashes, beginning with a letter")]
    Name(String),
    /// Too few or too many nodes.
    #[error("--nodes {0}: a local cluster has 1 to {MAX_NODES} nodes")]
    Nodes(u8),
    /// The same host port twice.
    #[error("port {0} is asked for twice: each published port and the API need one of their own")]
    PortTwice(u16),
    /// Not `HOSTPORT:NODEPORT` nor `NODEPORT`.
    #[error("--publish {0:?}: expected HOSTPORT:NODEPORT or NODEPORT")]
    Publish(String),
}

impl Spec {
    /// An IPv4 cluster of three nodes with the ports that its name gives, nothing published.
    pub fn new(name: &str) -> Spec {
        let api_port = default_ports(name).0;
        Spec {
            name: name.to_owned(),
            nodes: 3,
            api_port,
            publish: Vec::new(),
            ip_family: IpFamily::default(),
            agent_args: Vec::new(),
        }
    }

    /// Refuses what cannot be started.
    pub fn validate(&self) -> Result<(), Error> {
        validate_name(&self.name)?;
        if !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(Error::Nodes(self.nodes));
        }
        let mut seen = vec![self.api_port];
        for port in self.publish.iter().map(|publish| publish.host) {
            if port != 0 && seen.contains(&port) {
                return Err(Error::PortTwice(port));
            }
            seen.push(port);
        }
        Ok(())
    }

    /// Names of the nodes, node-1 first.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("node-{number}")).collect()
    }
}

/// Refuses a name that would not be one path component and one cgroup.
pub fn validate_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let letter_first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !letter_first || name.len() > 20 || !name.chars().all(plain) {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(())
}

/// Ports of the API and of the first published service: fixed for the default name, else from the name's hash.
pub fn default_ports(name: &str) -> (u16, u16) {
    if name == DEFAULT_NAME {
        return (16443, 18080);
    }
    // FNV-1a: stable across builds, which `DefaultHasher` does not promise.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let slot = u16::try_from(hash % 1000).expect("below 1000");
    (20000 + slot * 10, 20001 + slot * 10)
}

/// Reads `HOSTPORT:NODEPORT`, or `NODEPORT` with the host's port from the cluster's name and the position in the list.
pub fn parse_publish(text: &str, cluster: &str, position: u16) -> Result<Publish, Error> {
    let wrong = || Error::Publish(text.to_owned());
    let number = |part: &str| part.parse::<u16>().map_err(|_| wrong());
    match text.split_once(':') {
        Some((host, node)) => Ok(Publish { host: number(host)?, node: number(node)? }),
        None => Ok(Publish { host: default_ports(cluster).1 + position, node: number(text)? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, good: bool) {
        assert_eq!(validate_name(name).is_ok(), good, "{name:?}");
    }

    #[test]
    fn names() {
        check_name("weft", true);
        check_name("a-1", true);
        check_name("", false);
        check_name("1a", false);
        check_name("../etc", false);
        check_name("Weft", false);
        check_name("a-name-that-is-too-long", false);
    }

    #[track_caller]
    fn check_publish(text: &str, expected: Option<(u16, u16)>) {
        let got = parse_publish(text, "weft", 0).ok().map(|p| (p.host, p.node));
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn publish() {
        check_publish("8080:30080", Some((8080, 30080)));
        check_publish("0:30080", Some((0, 30080)));
        check_publish("30080", Some((18080, 30080)));
        check_publish("8080:", None);
        check_publish("70000:1", None);
        check_publish("a:b:c", None);
    }

    #[test]
    fn limits() {
        let spec = Spec { nodes: 11, ..Spec::new("weft") };
        assert_eq!(spec.validate(), Err(Error::Nodes(11)));
        let twice = Spec { publish: vec![Publish { host: 16443, node: 30000 }], ..Spec::new("weft") };
        assert_eq!(twice.validate(), Err(Error::PortTwice(16443)));
        assert_eq!(Spec::new("weft").validate(), Ok(()));
    }

    #[test]
    fn two_names_two_ports() {
        assert_ne!(default_ports("one"), default_ports("two"));
        assert_eq!(default_ports("weft"), (16443, 18080));
    }
}
