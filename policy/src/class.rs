//! Peer classes: addresses that no rule of this node tells apart share one.
//!
//! What an address satisfies is a [`Traits`]: the terms that match it and the numbers behind the port names that egress
//! rules use. Equal traits are one class; its id is a hash of their text. Pods that satisfy nothing but blocks need no
//! row of their own: the longest prefix of `CIDRS` knows the same. A prefix in which nothing holds (a hole) has a class
//! too, that no row of `POLICY` names, so that a shorter prefix does not speak for it.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use abi::{Addr, addr::Prefix, peer::Class};
use objects::{Issue, Namespace, Pod, Store, content};

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
    // Far fewer than addresses: what is worked out for each is worked out once.
    let mut all = Interned::default();
    let of_block = |prefix: Prefix| (prefix, block_traits(&parsed.terms, &prefix));
    let cidrs: Vec<(Prefix, Traits)> = prefixes(&parsed.terms).into_iter().map(of_block).collect();
    let cidrs: Vec<(Prefix, usize)> = cidrs.into_iter().map(|(prefix, traits)| (prefix, all.number(traits))).collect();
    let mut peers: Vec<(Addr, usize)> = Vec::new();
    if parsed.terms.iter().any(|term| matches!(term, Term::Pods { .. })) || !names.is_empty() {
        for owners in owners(input).chunk_by(|(one, _), (other, _)| one == other) {
            let (traits, issue) = owners_traits(owners, parsed, input.namespaces, &names);
            classes.issues.extend(issue);
            let selected = traits.terms.iter().any(|id| matches!(parsed.terms[*id], Term::Pods { .. }));
            if selected || !traits.ports.is_empty() {
                peers.push((owners[0].0, all.number(traits)));
            }
        }
    }
    let all = all.in_order();
    let texts: Vec<String> = all.iter().map(|traits| text(traits, &parsed.terms)).collect();
    let ids = content::ids(&texts.iter().map(String::as_str).collect());
    let id = |number: usize| ids[texts[number].as_str()];
    let of_numbers: Vec<Class> = (0..all.len()).map(id).collect();
    classes.peers = peers.into_iter().map(|(addr, number)| (addr, of_numbers[number])).collect();
    classes.cidrs = cidrs.into_iter().map(|(prefix, number)| (prefix, of_numbers[number])).collect();
    classes.traits = of_numbers.iter().copied().zip(all).collect();
    classes.texts = of_numbers.into_iter().zip(texts).collect();
    classes
}

/// Each traits once, by number.
#[derive(Default)]
struct Interned(BTreeMap<Traits, usize>);

impl Interned {
    fn number(&mut self, traits: Traits) -> usize {
        let next = self.0.len();
        *self.0.entry(traits).or_insert(next)
    }

    fn in_order(self) -> Vec<Traits> {
        let mut all: Vec<(usize, Traits)> = self.0.into_iter().map(|(traits, number)| (number, traits)).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, traits)| traits).collect()
    }
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

/// Pods by address, in this order; several for one only if several claim it alike.
fn owners<'a>(input: &'a Input) -> Vec<(Addr, &'a Arc<Pod>)> {
    // One pod may have several sandboxes for a while, and its predecessor of the same name one more. Both lists are in the
    // order of keys, so each is gone through once.
    let mut local: Vec<&LocalPod> = input.local.iter().collect();
    local.sort_by_key(|local| &local.key);
    let mut rest = &local[..];
    let mut claims: Vec<(Addr, Claim, &'a Arc<Pod>)> = Vec::new();
    for (key, pod) in input.pods.iter().filter(|(_, pod)| !pod.host_network) {
        rest = &rest[rest.iter().take_while(|local| local.key < *key).count()..];
        let (sandboxes, others) = rest.split_at(rest.iter().take_while(|local| local.key == *key).count());
        rest = others;
        let before = claims.len();
        let given = sandboxes.iter().filter(|local| local.is(pod)).flat_map(|local| &local.addresses);
        claims.extend(given.map(|address| (Addr::from(*address), Claim::Ledger, pod)));
        if claims.len() == before && !pod.terminated() {
            let claim = if pod.deleting { Claim::Deleting } else { Claim::Status };
            claims.extend(pod.addresses.iter().map(|address| (Addr::from(*address), claim, pod)));
        }
    }
    claims.sort_by_key(|(addr, claim, _)| (*addr, *claim));
    let best = claims.chunk_by(|one, other| one.0 == other.0).flat_map(|claims| {
        let alike = |claim: &&(Addr, Claim, &'a Arc<Pod>)| claim.1 == claims[0].1;
        claims.iter().take_while(alike).map(|(addr, _, pod)| (*addr, *pod))
    });
    best.collect()
}

/// What an address satisfies: if several pods claim it, what all of them satisfy.
fn owners_traits(
    owners: &[(Addr, &Arc<Pod>)],
    parsed: &Parsed,
    namespaces: &Store<Namespace>,
    names: &BTreeSet<(u8, Box<str>)>,
) -> (Traits, Option<Issue>) {
    let traits = |(addr, pod): &(Addr, &Arc<Pod>)| pod_traits(pod, *addr, &parsed.terms, namespaces, names);
    let ((addr, owner), others) = owners.split_first().expect("an address is listed because a pod claims it");
    let mut common = traits(&owners[0]);
    if others.is_empty() {
        return (common, None);
    }
    let (first, others): (Traits, Vec<Traits>) = (common.clone(), others.iter().map(traits).collect());
    for other in &others {
        common.terms.retain(|term| other.terms.contains(term));
        common.ports.retain(|name, numbers| other.ports.get(name) == Some(numbers));
    }
    let issue = others.iter().any(|other| *other != first).then(|| Issue {
        kind: "Pod",
        key: owner.key.clone(),
        reason: "AddressConflict",
        message: format!(
            "status.podIPs: {addr} is also claimed by {}; only what is allowed to all of them is allowed",
            owners[1..].iter().map(|(_, pod)| pod.key.to_string()).collect::<Vec<_>>().join(", ")
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
    use objects::{Key, Phase};

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
        let found: Vec<String> = owners(&input).iter().map(|(addr, _)| addr.to_string()).collect();
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
