//! Rule by rule: which peer and which port of a rule match a packet, and why those do not that do not. What
//! `weft policy explain` prints beside the verdict; the verdict itself comes from the tables.
use std::net::IpAddr;

use abi::{
    addr::Prefix,
    policy::{EGRESS, INGRESS},
};
use objects::{Key, NetworkPolicy, Pod, PolicyRule};

use crate::{
    compile::Input,
    peer::Term,
    port::{Port, PortMatch, resolve},
};

/// What one rule says of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleFinding {
    /// The NetworkPolicy.
    pub policy: Key,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// Index in the policy's `ingress` or `egress`.
    pub index: usize,
    /// The first of `from` or `to` that matches, if there is such a list.
    pub peer: Option<usize>,
    /// The first of `ports` that matches, if there is such a list.
    pub port: Option<usize>,
    /// Why the rule does not allow the packet; empty if it does.
    pub why_not: String,
}

impl RuleFinding {
    /// The field that allows the packet, or the rule's: `spec.ingress[0].from[1], ports[0]`.
    pub fn path(&self) -> String {
        let (rules, peers) = if self.direction == INGRESS { ("ingress", "from") } else { ("egress", "to") };
        let peer = self.peer.map(|index| format!(".{peers}[{index}]")).unwrap_or_default();
        let port = self.port.map(|index| format!(".ports[{index}]")).unwrap_or_default();
        format!("spec.{rules}[{}]{peer}{port}", self.index)
    }
}

/// A packet, from the view of the pod that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// [`INGRESS`] or [`EGRESS`].
    pub direction: u8,
    /// The other side.
    pub peer: IpAddr,
    /// The pod of the cluster's network that has the peer's address.
    pub peer_pod: Option<&'a Pod>,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port.
    pub port: u16,
}

/// What every rule says that applies to the pod in this direction.
pub fn rules(input: &Input, sight: &Sight) -> Vec<RuleFinding> {
    let mut findings = Vec::new();
    for policy in input.policies.values().filter(|policy| applies(policy, sight)) {
        let rules = if sight.direction == INGRESS { &policy.ingress } else { &policy.egress };
        findings.extend(rules.iter().enumerate().map(|(index, rule)| finding(input, policy, index, rule, sight)));
    }
    findings
}

fn applies(policy: &NetworkPolicy, sight: &Sight) -> bool {
    let isolates = if sight.direction == EGRESS { policy.isolates_egress() } else { policy.isolates_ingress() };
    isolates
        && policy.key.namespace == sight.pod.key.namespace
        && (policy.pod_selector.fault().is_some() || policy.pod_selector.matches(&sight.pod.labels))
}

fn finding(input: &Input, policy: &NetworkPolicy, index: usize, rule: &PolicyRule, sight: &Sight) -> RuleFinding {
    let matches = |term: &Term| {
        let selected = sight.peer_pod.is_some_and(|pod| term.selects(pod, input.namespaces));
        selected || term.contains(&Prefix::host(sight.peer.into()))
    };
    let peer = rule.peers.iter().position(|peer| Term::parse(peer, &policy.key.namespace).is_ok_and(|t| matches(&t)));
    let port = rule.ports.iter().position(|port| PortMatch::parse(port).is_ok_and(|port| port_matches(&port, sight)));
    let mut reasons = Vec::new();
    if policy.pod_selector.fault().is_some() {
        reasons.push("spec.podSelector is invalid, so its rules are nobody's".to_owned());
    }
    if peer.is_none() && !rule.peers.is_empty() {
        reasons.push(why_no_peer(policy, rule, sight));
    }
    if port.is_none() && !rule.ports.is_empty() {
        reasons.push(why_no_port(rule, sight));
    }
    let why_not = reasons.join("; ");
    RuleFinding { policy: policy.key.clone(), direction: sight.direction, index, peer, port, why_not }
}

fn port_matches(port: &PortMatch, sight: &Sight) -> bool {
    let in_range = match &port.port {
        Port::Any => true,
        Port::Range(first, last) => (*first..=*last).contains(&sight.port),
        Port::Named(name) => destination(sight).is_some_and(|pod| resolve(pod, port.proto, name).contains(&sight.port)),
    };
    port.proto == sight.proto && in_range
}

/// The pod whose containers say what a port's name means.
fn destination<'a>(sight: &Sight<'a>) -> Option<&'a Pod> {
    if sight.direction == INGRESS { Some(sight.pod) } else { sight.peer_pod }
}

fn why_no_peer(policy: &NetworkPolicy, rule: &PolicyRule, sight: &Sight) -> String {
    let list = if sight.direction == INGRESS { "from" } else { "to" };
    let texts = rule.peers.iter().map(|peer| match Term::parse(peer, &policy.key.namespace) {
        Ok(term) => term.to_string(),
        Err(fault) => format!("(invalid{fault})"),
    });
    let who = match sight.peer_pod {
        Some(pod) => format!("{} {{{}}} {}", pod.key, pod.labels, sight.peer),
        None => format!("{}, no pod's", sight.peer),
    };
    format!("{list}: {who} is not in [{}]", texts.collect::<Vec<_>>().join("; "))
}

fn why_no_port(rule: &PolicyRule, sight: &Sight) -> String {
    let text = |port: &objects::PolicyPort| match PortMatch::parse(port) {
        Ok(port) => match &port.port {
            Port::Named(name) => match destination(sight) {
                None => format!("{port} (a name means nothing for an address that is no pod's)"),
                Some(pod) => match resolve(pod, port.proto, name).as_slice() {
                    [] => format!("{port} ({} has no port of that name and protocol)", pod.key),
                    numbers => {
                        let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
                        format!("{port} ({} of {})", numbers.join(", "), pod.key)
                    }
                },
            },
            _ => port.to_string(),
        },
        Err(fault) => format!("(invalid {fault})"),
    };
    let asked = match sight.proto {
        6 => format!("TCP/{}", sight.port),
        17 => format!("UDP/{}", sight.port),
        132 => format!("SCTP/{}", sight.port),
        1 => "ICMP".to_owned(),
        other => format!("protocol {other}"),
    };
    format!("ports: {asked} is not in [{}]", rule.ports.iter().map(text).collect::<Vec<_>>().join(", "))
}
