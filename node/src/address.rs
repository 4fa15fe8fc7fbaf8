//! The node's own addresses, one per family, and the order of families that follows from them.
//!
//! Pure but for `find`, which asks the machine whether it has them. Whoever prints or dials an address of a pod takes it
//! in this order: the node's primary family first.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::str::FromStr;

/// What `--node-ip` names: one address, or one of each family. The first decides the node's primary family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIps {
    /// The first.
    pub primary: IpAddr,
    /// The other family's.
    pub secondary: Option<IpAddr>,
}

/// Addresses that a node cannot have.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address.
    #[error("{text:?} is no IP address: give one, or one per family with a comma between them")]
    NotAnAddress {
        /// What was given.
        text: String,
    },
    /// Three or more.
    #[error("{given} addresses were given: give one, or one per family with a comma between them")]
    TooMany {
        /// How many.
        given: usize,
    },
    /// Two that cannot stand side by side.
    #[error("{0} and {1} are of the same family: give at most one IPv4 and one IPv6 address")]
    OneFamily(IpAddr, IpAddr),
    /// One that others cannot reach.
    #[error("{address} is {kind}: give an address by which other nodes and the API server reach this node")]
    Unreachable {
        /// Which.
        address: IpAddr,
        /// What it is instead.
        kind: &'static str,
    },
    /// One of another machine.
    #[error("no network device of this machine has {address}: see ip address, and give --node-ip one of those")]
    Absent {
        /// Which.
        address: IpAddr,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl FromStr for NodeIps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        match parts[..] {
            [primary] => Ok(Self { primary: reachable(primary)?, secondary: None }),
            [primary, secondary] => {
                let (primary, secondary) = (reachable(primary)?, reachable(secondary)?);
                if primary.is_ipv4() == secondary.is_ipv4() {
                    return Err(Error::OneFamily(primary, secondary));
                }
                Ok(Self { primary, secondary: Some(secondary) })
            }
            _ => Err(Error::TooMany { given: parts.len() }),
        }
    }
}

/// Kinds of addresses by which nobody else reaches a node, as the kubelet refuses them.
fn reachable(text: &str) -> Result<IpAddr, Error> {
    let address: IpAddr = text.parse().map_err(|_| Error::NotAnAddress { text: text.to_owned() })?;
    let kind = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_loopback() => "a loopback address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address written as an IPv6 one",
        _ => return Ok(address),
    };
    Err(Error::Unreachable { address, kind })
}

impl NodeIps {
    /// All of them, the primary one first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.primary).chain(self.secondary)
    }

    /// Refuses an address that no device of this machine has.
    ///
    /// # Errors
    /// [`Error::Absent`].
    pub fn find(self) -> Result<(), Error> {
        // A socket can be bound to the machine's own addresses only.
        self.iter().try_for_each(|address| match UdpSocket::bind((address, 0)) {
            Err(source) if source.kind() == io::ErrorKind::AddrNotAvailable => Err(Error::Absent { address, source }),
            _ => Ok(()),
        })
    }

    /// A pod's addresses as its status has them: at most one of each family, the node's primary family first.
    pub(crate) fn order(self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let of = |v4: bool| ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let primary = self.primary.is_ipv4();
        of(primary).into_iter().chain(of(!primary)).collect()
    }
}

impl std::fmt::Display for NodeIps {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.primary)?;
        self.secondary.map_or(Ok(()), |secondary| write!(out, ",{secondary}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = text.parse::<NodeIps>().map(|ips| ips.to_string()).map_err(|error| error.to_string());
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => panic!("{text:?}: {got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn what_a_node_may_have() {
        check("172.31.0.11", Ok("172.31.0.11"));
        check("fd00::b", Ok("fd00::b"));
        check("172.31.0.11,fd00::b", Ok("172.31.0.11,fd00::b"));
        check("fd00::b, 172.31.0.11", Ok("fd00::b,172.31.0.11"));
        check("", Err("\"\" is no IP address"));
        check("node-1", Err("\"node-1\" is no IP address"));
        check("10.0.0.1,", Err("\"\" is no IP address"));
        check("10.0.0.1,fd00::1,10.0.0.2", Err("3 addresses were given"));
        check("10.0.0.1,10.0.0.2", Err("10.0.0.1 and 10.0.0.2 are of the same family"));
        check("fd00::1,fd00::2", Err("are of the same family"));
        check("0.0.0.0", Err("is the unspecified address"));
        check("10.0.0.1,::", Err(":: is the unspecified address"));
        check("127.0.0.1", Err("is a loopback address"));
        check("::1", Err("is a loopback address"));
        check("224.0.0.1", Err("is a multicast address"));
        check("ff02::1", Err("is a multicast address"));
        check("169.254.1.1", Err("is a link-local address"));
        check("fe80::1", Err("is a link-local address"));
        check("255.255.255.255", Err("is the broadcast address"));
        check("::ffff:10.0.0.1", Err("an IPv4 address written as an IPv6 one"));
    }

    #[track_caller]
    fn check_order(node: &str, ips: &[&str], expected: &[&str]) {
        let parse = |ips: &[&str]| ips.iter().map(|ip| ip.parse().expect("an address")).collect::<Vec<IpAddr>>();
        assert_eq!(node.parse::<NodeIps>().expect("a node's").order(&parse(ips)), parse(expected));
    }

    #[test]
    fn the_nodes_primary_family_comes_first() {
        check_order("10.0.0.1,fd00::1", &["fd00:2::9", "10.244.0.9"], &["10.244.0.9", "fd00:2::9"]);
        check_order("fd00::1,10.0.0.1", &["10.244.0.9", "fd00:2::9"], &["fd00:2::9", "10.244.0.9"]);
        check_order("10.0.0.1", &["10.244.0.9", "10.244.0.10"], &["10.244.0.9"]);
        // A network of another family than the node's is the network's business.
        check_order("10.0.0.1", &["fd00:2::9"], &["fd00:2::9"]);
        check_order("10.0.0.1", &[], &[]);
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        // TEST-NET-1 of RFC 5737 and the documentation prefix of RFC 3849 are nobody's.
        for (text, absent) in [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1")] {
            let refusal = text.parse::<NodeIps>().expect("well formed").find().expect_err("not ours").to_string();
            assert!(refusal.starts_with(&format!("no network device of this machine has {absent}")), "{refusal}");
        }
    }
}
