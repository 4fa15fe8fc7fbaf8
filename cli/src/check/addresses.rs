//! The addresses of a pod, a node or a Service of the check: one for each family that the cluster has, in the cluster's
//! order. Anything else is a broken promise of the cluster, told before a packet is sent.
use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use local_cluster::{Family, IpFamily};

/// One per family, the primary one first.
#[derive(Clone, Debug)]
pub(super) struct Addresses(Vec<IpAddr>);

impl Addresses {
    /// Those that the API tells of `what`.
    pub(super) fn read<'a>(
        what: &str,
        families: IpFamily,
        told: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<Addresses> {
        let parse = |text: &str| text.parse::<IpAddr>().with_context(|| format!("{what} has the address {text:?}"));
        let found = told.into_iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
        let right = found.iter().map(|address| Family::of(*address)).eq(families.families().iter().copied());
        ensure!(right, "{what} has the addresses {found:?}, expected one for each of {:?}", families.families());
        Ok(Addresses(found))
    }

    /// Those that the fabric gives.
    pub(super) fn given(addresses: Vec<IpAddr>) -> Addresses {
        Addresses(addresses)
    }

    /// The first.
    pub(super) fn primary(&self) -> IpAddr {
        self.0[0]
    }

    /// The one of a family of the cluster.
    pub(super) fn of(&self, family: Family) -> IpAddr {
        self.0.iter().copied().find(|address| family.is_of(*address)).expect("there is one per family, by `read`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(families: IpFamily, told: &[&str], good: bool) {
        assert_eq!(Addresses::read("pod a", families, told.iter().copied()).is_ok(), good, "{told:?}");
    }

    #[test]
    fn one_per_family_in_order() {
        check(IpFamily::Ipv4, &["10.0.0.1"], true);
        check(IpFamily::Dual, &["10.0.0.1", "fd00::1"], true);
        check(IpFamily::Ipv6, &["fd00::1"], true);
        check(IpFamily::Dual, &["fd00::1", "10.0.0.1"], false);
        check(IpFamily::Dual, &["10.0.0.1"], false);
        check(IpFamily::Ipv4, &["10.0.0.1", "fd00::1"], false);
        check(IpFamily::Ipv4, &[], false);
        check(IpFamily::Ipv4, &["None"], false);
    }

    #[test]
    fn of_a_family() {
        let addresses = Addresses::read("pod a", IpFamily::Dual, ["10.0.0.1", "fd00::1"]).expect("good");
        assert_eq!(addresses.of(Family::V6).to_string(), "fd00::1");
        assert_eq!(addresses.primary().to_string(), "10.0.0.1");
    }
}
