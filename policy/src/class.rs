//! Peer classes: addresses that no rule of this node tells apart share one.
//!
//! What an address satisfies is a [`Traits`]: the terms that match it and the numbers behind the port names that egress
//! rules use. Equal traits are one class; its id is a hash of their text. Pods that satisfy nothing but blocks need no
//! row of their own: the longest prefix of `CIDRS` knows the same. A prefix in which nothing holds (a hole) has a class
//! too, that no row of `POLICY` names, so that a shorter prefix does not speak for it.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use abi::{Addr, addr::Prefix, peer::Class};
use objects::{Issue, Key, Namespace, Pod, Store, content};

use crate::{
    compile::{Input, LocalPod},
    peer::{ALL_V4, Term, masked},
    port::{Port, PortMatch, resolve},
    rule::{Parsed, TermId},
};

/// What an address satisfies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Traits {
    /// Terms that match.
    pub(crate) terms: BTreeSet<TermId>,
    /// Numbers behind (protocol, name), for the names that egress rules use; names without numbers are absent.
    pub(crate) ports: BTreeMap<(u8, Box<str>), Vec<u16>>,
}

/// Every class, and who is in it.
#[derive(Default)]
pub(crate) struct Classes {
    pub(crate) peers: BTreeMap<Addr, Class>,
    pub(crate) cidrs: BTreeMap<Prefix, Class>,
    pub(crate) traits: BTreeMap<Class, Traits>,
    pub(crate) texts: BTreeMap<Class, String>,
    pub(crate) issues: Vec<Issue>,
}

/// Classes of everybody whom the policies distinguish.
pub(crate) fn classify(input: &Input, parsed: &Parsed) -> Classes {
    let names = egress_names(parsed);
    let mut classes = Classes::default();
    let cidrs: Vec<(Prefix, Traits)> =
        prefixes(&parsed.terms).into_iter().map(|prefix| (prefix, block_traits(&parsed.terms, &prefix))).collect();
    let mut peers: Vec<(Addr, Traits)> = Vec::new();
    if parsed.terms.iter().any(|term| matches!(term, Term::Pods { .. })) || !names.is_empty() {
        for (addr, owners) in owners(input) {
            let (traits, issue) = owners_traits(&owners, addr, parsed, input.namespaces, &names);
            classes.issues.extend(issue);
            let selected = traits.terms.iter().any(|id| matches!(parsed.terms[*id], Term::Pods { .. }));
            if selected || !traits.ports.is_empty() {
                peers.push((addr, traits));
            }
        }
    }
    let texts: BTreeMap<&Traits, String> =
        peers.iter().map(|(_, t)| t).chain(cidrs.iter().map(|(_, t)| t)).map(|t| (t, text(t, &parsed.terms))).collect();
    let ids = content::ids(&texts.values().map(String::as_str).collect());
    let id = |traits: &Traits| ids[texts[traits].as_str()];
    classes.peers = peers.iter().map(|(addr, traits)| (*addr, id(traits))).collect();
    classes.cidrs = cidrs.iter().map(|(prefix, traits)| (*prefix, id(traits))).collect();
    classes.traits = texts.keys().map(|traits| (id(traits), (*traits).clone())).collect();
    classes.texts = texts.values().map(|text| (ids[text.as_str()], text.clone())).collect();
    classes
}

/// The port names that egress rules use: peers that resolve them differently must be told apart.
fn egress_names(parsed: &Parsed) -> BTreeSet<(u8, Box<str>)> {
    let rules = parsed.policies.iter().flat_map(|policy| policy.rules[1].iter().flatten());
    let ports = rules.flat_map(|rule| rule.ports.iter().flatten());
    ports
        .filter_map(|PortMatch { proto, port }| match port {
            Port::Named(name) => Some((*proto, name.clone())),
            _ => None,
        })
        .collect()
}

/// Every prefix at which the answer can change.
fn prefixes(terms: &[Term]) -> BTreeSet<Prefix> {
    let mut prefixes = BTreeSet::new();
    for term in terms {
        if let Term::Block { cidr, except } = term {
            prefixes.insert(*cidr);
            prefixes.extend(except);
        }
    }
    // A short IPv6 prefix covers mapped IPv4 addresses in the table, of which it does not speak.
    if prefixes.iter().any(|p| p.prefix_len <= 96 && masked(ALL_V4.addr, p.prefix_len) == p.addr) {
        prefixes.insert(ALL_V4);
    }
    prefixes
}

fn block_traits(terms: &[Term], prefix: &Prefix) -> Traits {
    let matching = terms.iter().enumerate().filter(|(_, term)| term.contains(prefix));
    Traits { terms: matching.map(|(id, _)| id).collect(), ports: BTreeMap::new() }
}

/// How sure we are that a pod owns an address; the lowest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Our own ledger gave it out.
    Ledger,
    /// The object says so.
    Status,
    /// The object says so, but is being deleted: the address may be another's by now.
    Deleting,
}

/// Pods by address; several only if several claim it alike.
fn owners<'a>(input: &'a Input) -> BTreeMap<Addr, Vec<&'a Arc<Pod>>> {
    // One pod may have several sandboxes for a while, and its predecessor of the same name one more.
    let mut local: BTreeMap<&Key, Vec<&LocalPod>> = BTreeMap::new();
    for pod in input.local {
        local.entry(&pod.key).or_default().push(pod);
    }
    let mut claims: BTreeMap<Addr, (Claim, Vec<&'a Arc<Pod>>)> = BTreeMap::new();
    for (key, pod) in input.pods.iter().filter(|(_, pod)| !pod.host_network) {
        let sandboxes = local.get(key).into_iter().flatten().filter(|local| local.is(pod));
        let given: Vec<IpAddr> = sandboxes.flat_map(|local| local.addresses.iter().copied()).collect();
        let (claim, addresses) = match given.as_slice() {
            [] if pod.terminated() => continue,
            [] => (if pod.deleting { Claim::Deleting } else { Claim::Status }, &*pod.addresses),
            given => (Claim::Ledger, given),
        };
        for address in addresses {
            let entry = claims.entry(Addr::from(*address)).or_insert((claim, Vec::new()));
            if claim < entry.0 {
                *entry = (claim, Vec::new());
            }
            if claim == entry.0 {
                entry.1.push(pod);
            }
        }
    }
    claims.into_iter().map(|(addr, (_, pods))| (addr, pods)).collect()
}

/// What an address satisfies: if several pods claim it, what all of them satisfy.
fn owners_traits(
    owners: &[&Arc<Pod>],
    addr: Addr,
    parsed: &Parsed,
    namespaces: &Store<Namespace>,
    names: &BTreeSet<(u8, Box<str>)>,
) -> (Traits, Option<Issue>) {
    let all: Vec<Traits> = owners.iter().map(|pod| pod_traits(pod, addr, &parsed.terms, namespaces, names)).collect();
    let (first, others) = all.split_first().expect("an address is listed because a pod claims it");
    let mut common = first.clone();
    for other in others {
        common.terms.retain(|term| other.terms.contains(term));
        common.ports.retain(|name, numbers| other.ports.get(name) == Some(numbers));
    }
    let issue = others.iter().any(|other| other != first).then(|| Issue {
        kind: "Pod",
        key: owners[0].key.clone(),
        reason: "AddressConflict",
        message: format!(
            "status.podIPs: {addr} is also claimed by {}; only what is allowed to all of them is allowed",
            owners[1..].iter().map(|pod| pod.key.to_string()).collect::<Vec<_>>().join(", ")
        ),
    });
    (common, issue)
}

fn pod_traits(
    pod: &Pod,
    addr: Addr,
    terms: &[Term],
    namespaces: &Store<Namespace>,
    names: &BTreeSet<(u8, Box<str>)>,
) -> Traits {
    let host = Prefix::host(addr);
    let matches = |term: &Term| term.selects(pod, namespaces) || term.contains(&host);
    let resolved = names.iter().map(|(proto, name)| ((*proto, name.clone()), resolve(pod, *proto, name)));
    Traits {
        terms: terms.iter().enumerate().filter(|(_, term)| matches(term)).map(|(id, _)| id).collect(),
        ports: resolved.filter(|(_, numbers)| !numbers.is_empty()).collect(),
    }
}

/// Canonical: sorted by text, since indices of terms depend on the policies around.
fn text(traits: &Traits, terms: &[Term]) -> String {
    let mut parts: BTreeSet<String> = traits.terms.iter().map(|id| terms[*id].to_string()).collect();
    for ((proto, name), numbers) in &traits.ports {
        let port = PortMatch { proto: *proto, port: Port::Named(name.clone()) };
        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
        parts.insert(format!("{port}={}", numbers.join("+")));
    }
    if parts.is_empty() { "nothing".into() } else { parts.into_iter().collect::<Vec<_>>().join(" & ") }
}

#[cfg(test)]
mod tests {
    use objects::Phase;

    use super::*;

    fn pod(uid: &str, address: &str) -> Pod {
        let addresses = address.parse().into_iter().collect();
        Pod { key: Key::new("a", "p"), uid: uid.into(), addresses, phase: Phase::Running, ..Pod::default() }
    }

    #[track_caller]
    fn check(pod: Pod, local: &[(&str, &str)], expected: &[&str]) {
        let pods = Store::from([(pod.key.clone(), Arc::new(pod))]);
        let local: Vec<LocalPod> = local
            .iter()
            .map(|(uid, address)| LocalPod {
                key: Key::new("a", "p"),
                uid: (*uid).into(),
                addresses: vec![address.parse().unwrap()],
            })
            .collect();
        let input = Input { pods: &pods, namespaces: &Store::new(), policies: &Store::new(), local: &local };
        let found: Vec<String> = owners(&input).keys().map(Addr::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_ledger_knows_best() {
        check(pod("new", ""), &[("new", "10.0.0.2"), ("old", "10.0.0.1")], &["10.0.0.2"]);
        check(pod("new", "10.0.0.9"), &[("old", "10.0.0.1"), ("new", "10.0.0.2")], &["10.0.0.2"]);
        check(pod("new", ""), &[("new", "10.0.0.1"), ("", "10.0.0.2")], &["10.0.0.1", "10.0.0.2"]);
        check(pod("new", "10.0.0.9"), &[("old", "10.0.0.1")], &["10.0.0.9"]);
        check(Pod { phase: Phase::Failed, ..pod("new", "10.0.0.9") }, &[], &[]);
    }
}
