//! Address families of a local cluster: which it has, in which order, and the ranges and fabric addresses of each.
//!
//! Pure. Everything that differs between an IPv4 and an IPv6 cluster is a value from here; nothing else asks which it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// One address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The families of a cluster; the first is the primary one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 alone
    #[default]
    Ipv4,
    /// IPv6 alone
    Ipv6,
    /// IPv4 and IPv6, IPv4 first
    Dual,
}

/// Who has an address on the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Station {
    /// The namespace from which published ports are reached.
    Outside,
    /// A node, counted from 1.
    Node(u8),
}

impl IpFamily {
    /// The primary one first.
    pub const fn families(self) -> &'static [Family] {
        match self {
            IpFamily::Ipv4 => &[Family::V4],
            IpFamily::Ipv6 => &[Family::V6],
            IpFamily::Dual => &[Family::V4, Family::V6],
        }
    }

    /// Whether the cluster has this one.
    pub fn has(self, family: Family) -> bool {
        self.families().contains(&family)
    }

    /// The family of what has only one.
    pub const fn primary(self) -> Family {
        self.families()[0]
    }

    /// Ranges of pods, as `--cluster-cidr` takes them.
    pub fn cluster_cidr(self) -> String {
        self.listed(|family| family.cluster_cidr().to_owned())
    }

    /// Ranges of Services, as `--service-cidr` takes them.
    pub fn service_cidr(self) -> String {
        self.listed(|family| family.service_cidr().to_owned())
    }

    /// Addresses on the fabric.
    pub fn addresses(self, station: Station) -> Vec<IpAddr> {
        self.families().iter().map(|family| family.address(station)).collect()
    }

    /// The same with commas, as `--node-ip` takes them.
    pub fn node_ip(self, number: u8) -> String {
        self.listed(|family| family.address(Station::Node(number)).to_string())
    }

    fn listed(self, of: impl Fn(Family) -> String) -> String {
        self.families().iter().map(|family| of(*family)).collect::<Vec<_>>().join(",")
    }
}

impl std::fmt::Display for IpFamily {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            IpFamily::Ipv4 => "ipv4",
            IpFamily::Ipv6 => "ipv6",
            IpFamily::Dual => "dual",
        })
    }
}

impl Family {
    /// Addresses of pods: each node gets a piece.
    pub const fn cluster_cidr(self) -> &'static str {
        match self {
            Family::V4 => "10.244.0.0/16",
            Family::V6 => "fd00:10:244::/56",
        }
    }

    /// Addresses of Services.
    pub const fn service_cidr(self) -> &'static str {
        match self {
            Family::V4 => "10.96.0.0/16",
            Family::V6 => "fd00:10:96::/112",
        }
    }

    /// Prefix length of the fabric.
    pub const fn fabric_prefix(self) -> u8 {
        match self {
            Family::V4 => 24,
            Family::V6 => 64,
        }
    }

    /// Whether an address is of this family.
    pub const fn is_of(self, address: IpAddr) -> bool {
        matches!((self, address), (Family::V4, IpAddr::V4(_)) | (Family::V6, IpAddr::V6(_)))
    }

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// An address on the fabric: 172.31.0.2 outside and 172.31.0.11 for the first node, and the same last digits in
    /// `fd00:172:31::/64`, so that the two of a node are seen to belong together.
    pub const fn address(self, station: Station) -> IpAddr {
        let number = station.number();
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(172, 31, 0, number)),
            Family::V6 => {
                let digits = number / 10 * 16 + number % 10;
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0x172, 0x31, 0, 0, 0, 0, digits as u16))
            }
        }
    }
}

impl Station {
    const fn number(self) -> u8 {
        match self {
            Station::Outside => 2,
            Station::Node(number) => 10 + number,
        }
    }

    /// The MAC address follows from the number, so that neighbours outlive a power cut.
    pub const fn mac(self) -> [u8; 6] {
        [0x02, 0x57, 172, 31, 0, self.number()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(family: IpFamily, station: Station, expected: &str) {
        let listed: Vec<_> = family.addresses(station).iter().map(ToString::to_string).collect();
        assert_eq!(listed.join(","), expected);
    }

    #[test]
    fn addresses() {
        check(IpFamily::Ipv4, Station::Outside, "172.31.0.2");
        check(IpFamily::Dual, Station::Outside, "172.31.0.2,fd00:172:31::2");
        check(IpFamily::Ipv4, Station::Node(1), "172.31.0.11");
        check(IpFamily::Ipv6, Station::Node(1), "fd00:172:31::11");
        check(IpFamily::Dual, Station::Node(9), "172.31.0.19,fd00:172:31::19");
        check(IpFamily::Dual, Station::Node(10), "172.31.0.20,fd00:172:31::20");
        assert_eq!(IpFamily::Dual.node_ip(2), "172.31.0.12,fd00:172:31::12");
    }

    #[test]
    fn ranges() {
        assert_eq!(IpFamily::Ipv4.cluster_cidr(), "10.244.0.0/16");
        assert_eq!(IpFamily::Dual.cluster_cidr(), "10.244.0.0/16,fd00:10:244::/56");
        assert_eq!(IpFamily::Ipv6.service_cidr(), "fd00:10:96::/112");
    }

    #[test]
    fn a_cluster_of_an_earlier_build_has_ipv4() {
        #[derive(Deserialize)]
        struct Saved {
            #[serde(default)]
            ip_family: IpFamily,
        }
        let read = |text: &str| serde_json::from_str::<Saved>(text).expect("JSON").ip_family;
        assert_eq!((read("{}"), read(r#"{"ip_family":"dual"}"#)), (IpFamily::Ipv4, IpFamily::Dual));
    }
}
