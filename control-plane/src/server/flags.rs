//! Whether the flags about addresses go together. What each may hold alone, the command line has checked.
use std::net::IpAddr;

use api::registry::family::Family;
use ipnetwork::IpNetwork;

use super::Args;
use crate::ranges::Ranges;

/// Fewer addresses for Services than this are refused, as upstream does.
const FEWEST: u128 = 8;

/// What does not go together, and the remedy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody else reaches such an address.
    #[error("--advertise-address {address} is {kind}: pods could not reach the server by it")]
    Unreachable {
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
    /// The `kubernetes` Service has one family: the primary one.
    #[error(
        "--advertise-address {address} is {found}, but --service-cidr {ranges} begins with {wanted}, and the kubernetes Service has that family only: give an {wanted} address or put the {found} range first"
    )]
    AdvertiseFamily {
        /// The address.
        address: IpAddr,
        /// Its family.
        found: Family,
        /// That of the first range.
        wanted: Family,
        /// The ranges of Services.
        ranges: Ranges,
    },
    /// Services that no pod could serve.
    #[error(
        "--service-cidr {services} begins with {family}, but --cluster-cidr {pods} has no such range, so no pod could be behind a Service: add one to --cluster-cidr"
    )]
    NoPods {
        /// The ranges of Services.
        services: Ranges,
        /// The family of the first of them.
        family: Family,
        /// The ranges of pods.
        pods: Ranges,
    },
    /// Too few addresses.
    #[error("--service-cidr {range} has fewer than {FEWEST} addresses: give a larger range")]
    FewServices {
        /// The range.
        range: IpNetwork,
    },
    /// A node's piece does not fit.
    #[error("{flag} {mask} does not fit --cluster-cidr {range}: a node's piece has a prefix from /{} to /{}", range.prefix(), bits(*range))]
    NodeMask {
        /// The flag.
        flag: &'static str,
        /// Its value.
        mask: u8,
        /// The range.
        range: IpNetwork,
    },
    /// The store is that of a cluster with other ranges.
    #[error(
        "this cluster's kubernetes Service has the address {stored}, but --service-cidr {ranges} would give it {wanted}: start with the range that the cluster was made with (a range of the other family may be added after it)"
    )]
    OtherRange {
        /// What the store has.
        stored: String,
        /// What the flag gives.
        wanted: IpAddr,
        /// The flag.
        ranges: Ranges,
    },
}

/// Checks them.
///
/// # Errors
/// The first thing that does not go together.
pub(super) fn check(args: &Args) -> Result<(), Error> {
    advertise(args)?;
    let family = Family::of(args.service_cidr.primary().ip());
    if args.cluster_cidr.of(family).is_none() {
        return Err(Error::NoPods { services: args.service_cidr.clone(), family, pods: args.cluster_cidr.clone() });
    }
    if let Some(range) =
        args.service_cidr.iter().find(|range| 1_u128 << (bits(*range) - range.prefix()).min(100) < FEWEST)
    {
        return Err(Error::FewServices { range });
    }
    for range in args.cluster_cidr.iter() {
        let (flag, mask) = match range {
            IpNetwork::V4(_) => ("--node-cidr-mask-size", args.node_cidr_mask_size),
            IpNetwork::V6(_) => ("--node-cidr-mask-size-ipv6", args.node_cidr_mask_size_ipv6),
        };
        if !(range.prefix()..=bits(range)).contains(&mask) {
            return Err(Error::NodeMask { flag, mask, range });
        }
    }
    Ok(())
}

fn advertise(args: &Args) -> Result<(), Error> {
    let address = args.advertise_address;
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let kinds = [
        (address.is_loopback(), "a loopback address"),
        (address.is_unspecified(), "the unspecified address"),
        (address.is_multicast(), "a multicast address"),
        (link_local, "a link-local address"),
    ];
    if let Some((_, kind)) = kinds.into_iter().find(|(is, _)| *is) {
        return Err(Error::Unreachable { address, kind });
    }
    let (found, wanted) = (Family::of(address), Family::of(args.service_cidr.primary().ip()));
    if found == wanted {
        return Ok(());
    }
    Err(Error::AdvertiseFamily { address, found, wanted, ranges: args.service_cidr.clone() })
}

fn bits(range: IpNetwork) -> u8 {
    if range.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, check};

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    /// The refusal has this text; none is refused if it is empty.
    #[track_caller]
    fn with(flags: &str, expected: &str) {
        let line = ["server", "--data-dir=/nowhere"].into_iter().chain(flags.split_whitespace());
        let got = match Cli::try_parse_from(line) {
            Ok(cli) => check(&cli.args).err().map(|error| error.to_string()).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(expected) && got.is_empty() == expected.is_empty(), "{got:?} is not {expected:?}");
    }

    #[test]
    fn clusters_of_one_and_two_families() {
        with("--advertise-address 192.0.2.1", "");
        let both = "--service-cidr 10.96.0.0/16,fd00:10:96::/112 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56";
        with(&format!("--advertise-address 192.0.2.1 {both}"), "");
        let six = "--service-cidr fd00:10:96::/112 --cluster-cidr fd00:10:244::/56";
        with(&format!("--advertise-address 2001:db8::1 {six}"), "");
        with(&format!("--advertise-address 192.0.2.1 {both} --node-cidr-mask-size-ipv4 25"), "");
    }

    #[test]
    fn what_does_not_go_together() {
        with("--advertise-address 127.0.0.1", "--advertise-address 127.0.0.1 is a loopback address: pods could not");
        with("--advertise-address ::", "is the unspecified address");
        with("--advertise-address fe80::1", "is a link-local address");
        with("--advertise-address 2001:db8::1", "give an IPv4 address or put the IPv6 range first");
        with(
            "--advertise-address 2001:db8::1 --service-cidr fd00::/112",
            "--service-cidr fd00::/112 begins with IPv6, but --cluster-cidr 10.244.0.0/16 has no such range",
        );
        with("--advertise-address 192.0.2.1 --service-cidr 10.96.0.0/30", "has fewer than 8 addresses");
        with(
            "--advertise-address 192.0.2.1 --node-cidr-mask-size 12",
            "--node-cidr-mask-size 12 does not fit --cluster-cidr 10.244.0.0/16: a node's piece has a prefix from /16 to /32",
        );
        let six = "--advertise-address 192.0.2.1 --cluster-cidr 10.244.0.0/16,fd00::/72";
        with(six, "--node-cidr-mask-size-ipv6 64 does not fit --cluster-cidr fd00::/72");
        let twice = "--advertise-address 192.0.2.1 --service-cidr 10.96.0.0/16,10.97.0.0/16";
        with(twice, "10.96.0.0/16 and 10.97.0.0/16 are both IPv4: give one range, or one of each family");
    }
}
