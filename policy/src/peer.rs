//! Peers of a rule: selectors and blocks, parsed once and shared by all rules that name the same.
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use abi::{Addr, addr::Prefix};
use objects::{Key, LabelSelector, Namespace, Pod, PolicyPeer, Store};

/// One entry of a rule's `from` or `to`. Its text is canonical: classes and sets are hashes of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Term {
    Pods { namespaces: Namespaces, pods: LabelSelector },
    Block { cidr: Prefix, except: Vec<Prefix> },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Namespaces {
    /// The policy's own.
    Own(Box<str>),
    Selected(LabelSelector),
}

impl Term {
    /// From the API, for a policy of `namespace`; an error continues the path of the peer with the
    /// field that is wrong.
    pub(crate) fn parse(peer: &PolicyPeer, namespace: &str) -> Result<Term, String> {
        let selectors = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            Some(_) if selectors => Err(": may not specify both ipBlock and another peer".into()),
            Some(block) => {
                let cidr = parse_cidr(&block.cidr).map_err(|fault| format!(".ipBlock.cidr: {fault}"))?;
                let parse = |(index, text): (usize, &str)| {
                    parse_cidr(text).map_err(|fault| format!(".ipBlock.except[{index}]: {fault}"))
                };
                let mut except =
                    block.except.iter().map(|text| &**text).enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
                except.sort_unstable();
                except.dedup();
                Ok(Term::Block { cidr, except })
            }
            None if !selectors => Err(": must specify a peer".into()),
            None => {
                let namespaces = match &peer.namespace_selector {
                    Some(selector) => Namespaces::Selected(checked(selector, "namespaceSelector")?),
                    None => Namespaces::Own(namespace.into()),
                };
                let pods = peer.pod_selector.as_ref().map(|s| checked(s, "podSelector")).transpose()?;
                Ok(Term::Pods { namespaces, pods: pods.unwrap_or_default() })
            }
        }
    }

    /// True if a pod of the cluster's network is selected.
    pub(crate) fn selects(&self, pod: &Pod, namespaces: &Store<Namespace>) -> bool {
        let Term::Pods { namespaces: wanted, pods } = self else { return false };
        let in_namespace = match wanted {
            Namespaces::Own(name) => **name == *pod.key.namespace,
            Namespaces::Selected(selector) => match namespaces.get(&Key::cluster(pod.key.namespace.clone())) {
                Some(namespace) => selector.matches(&namespace.labels),
                // Its labels are not known yet, and "not labelled so" must not be concluded from that.
                None => selector.is_empty(),
            },
        };
        in_namespace && pods.matches(&pod.labels)
    }

    /// True if a block contains the whole prefix, and no hole of it does.
    pub(crate) fn contains(&self, prefix: &Prefix) -> bool {
        match self {
            Term::Pods { .. } => false,
            Term::Block { cidr, except } => covers(cidr, prefix) && !except.iter().any(|hole| covers(hole, prefix)),
        }
    }
}

fn checked(selector: &LabelSelector, field: &str) -> Result<LabelSelector, String> {
    match selector.fault() {
        Some(fault) => Err(format!(".{field}.{fault}")),
        None => Ok(selector.clone()),
    }
}

/// All of IPv4 within the 16-byte form.
pub(crate) const ALL_V4: Prefix = Prefix { prefix_len: 96, addr: Addr::from_octets([0; 4]) };

/// True if `outer` contains `inner`. An IPv6 prefix never contains an IPv4 one, though it may cover its mapped form.
pub(crate) fn covers(outer: &Prefix, inner: &Prefix) -> bool {
    let family = |prefix: &Prefix| prefix.prefix_len >= 96 && prefix.addr.is_v4();
    family(outer) == family(inner)
        && outer.prefix_len <= inner.prefix_len
        && masked(inner.addr, outer.prefix_len) == outer.addr
}

/// The address with only its first `bits` bits.
pub(crate) fn masked(addr: Addr, bits: u32) -> Addr {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Addr::from_bytes((u128::from_be_bytes(addr.bytes()) & mask).to_be_bytes())
}

/// `address/bits`; host bits are cleared, as the API allows and ignores them.
fn parse_cidr(text: &str) -> Result<Prefix, String> {
    let invalid =
        || format!("Invalid value: {text:?}: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    let (address, bits) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let bits: u32 = bits.parse().map_err(|_| invalid())?;
    let prefix_len = match address {
        IpAddr::V4(_) if bits <= 32 => 96 + bits,
        IpAddr::V6(v6) if bits <= 128 && !mapped(v6) => bits,
        _ => return Err(invalid()),
    };
    Ok(Prefix { prefix_len, addr: masked(address.into(), prefix_len) })
}

fn mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// The prefix as people write it.
pub(crate) struct CidrText<'a>(pub(crate) &'a Prefix);

impl fmt::Display for CidrText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prefix { prefix_len, addr } = self.0;
        let bits = if addr.is_v4() && *prefix_len >= 96 { prefix_len - 96 } else { *prefix_len };
        write!(f, "{addr}/{bits}")
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Block { cidr, except } => {
                write!(f, "{}", CidrText(cidr))?;
                for (index, hole) in except.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { " except " } else { "," }, CidrText(hole))?;
                }
                Ok(())
            }
            Term::Pods { namespaces: Namespaces::Own(name), pods } => write!(f, "pods {{{pods}}} in namespace {name}"),
            Term::Pods { namespaces: Namespaces::Selected(selector), pods } => {
                write!(f, "pods {{{pods}}} in namespaces {{{selector}}}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(parse_cidr(text).ok().map(|p| CidrText(&p).to_string()).as_deref(), expected);
    }

    #[test]
    fn cidrs() {
        check("10.0.0.0/8", Some("10.0.0.0/8"));
        check("10.1.2.3/8", Some("10.0.0.0/8"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        check("::/0", Some("::/0"));
        check("2001:db8::1/64", Some("2001:db8::/64"));
        check("10.0.0.1", None);
        check("10.0.0.0/33", None);
        check("10.0.0.0/255.0.0.0", None);
        check("10.0.0.0/+8", None);
        check("::ffff:10.0.0.0/104", None);
        check("fd00::/129", None);
        check("", None);
    }

    #[test]
    fn containment_keeps_the_families_apart() {
        let prefix = |text| parse_cidr(text).unwrap();
        assert!(covers(&prefix("10.0.0.0/8"), &prefix("10.1.0.0/16")));
        assert!(!covers(&prefix("10.1.0.0/16"), &prefix("10.0.0.0/8")));
        assert!(covers(&prefix("0.0.0.0/0"), &prefix("10.0.0.0/8")));
        assert!(!covers(&prefix("::/0"), &prefix("10.0.0.0/8")));
        assert!(covers(&prefix("::/0"), &prefix("fd00::/8")));
    }
}
