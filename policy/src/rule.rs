//! Policies parsed: rules over shared terms, faults reported and left out, so that what is wrong allows nothing.
use std::{collections::BTreeMap, fmt};

use abi::policy::{EGRESS, INGRESS};
use objects::{Issue, Key, NetworkPolicy, PolicyRule};

use crate::{peer::Term, port::PortMatch};

/// IP protocol number.
const SCTP: u8 = 132;
/// The datapath's parser knows no SCTP, so no pod's SCTP packet passes, whatever policies say.
const NO_SCTP: &str = "SCTP is not carried between pods: its packets are dropped as UnsupportedProtocol, and this port \
                       opens nothing; the other ports are in force";

/// Index into [`Parsed::terms`].
pub(crate) type TermId = usize;

/// The policies that matter on this node.
#[derive(Default)]
pub(crate) struct Parsed {
    pub(crate) policies: Vec<ParsedPolicy>,
    pub(crate) terms: Vec<Term>,
    pub(crate) issues: Vec<Issue>,
    term_ids: BTreeMap<Term, TermId>,
}

pub(crate) struct ParsedPolicy {
    pub(crate) key: Key,
    /// By direction; absent: the policy does not isolate in that direction.
    pub(crate) rules: [Option<Vec<ParsedRule>>; 2],
}

pub(crate) struct ParsedRule {
    pub(crate) index: usize,
    /// One must match; absent: everybody.
    pub(crate) peers: Option<Vec<TermId>>,
    /// One must match; absent: every protocol and port.
    pub(crate) ports: Option<Vec<PortMatch>>,
    /// In one line, without the policy's name.
    pub(crate) text: String,
}

impl Parsed {
    /// Adds a policy; what is wrong in it becomes an issue and matches nothing.
    pub(crate) fn add(&mut self, policy: &NetworkPolicy) {
        if let Some(fault) = policy.pod_selector.fault() {
            self.report(
                policy,
                format!("spec.podSelector.{fault}; every pod of the namespace is isolated until it is mended"),
            );
        }
        for (index, text) in policy.policy_types.iter().enumerate() {
            if !matches!(&**text, "Ingress" | "Egress") {
                self.report(
                    policy,
                    format!(
                        "spec.policyTypes[{index}]: Unsupported value: {text:?}: use Ingress or Egress; until then the \
                     policy isolates as if no types were given"
                    ),
                );
            }
        }
        let ingress = policy.isolates_ingress().then(|| self.rules(policy, INGRESS, &policy.ingress));
        let egress = policy.isolates_egress().then(|| self.rules(policy, EGRESS, &policy.egress));
        self.policies.push(ParsedPolicy { key: policy.key.clone(), rules: [ingress, egress] });
    }

    fn rules(&mut self, policy: &NetworkPolicy, direction: u8, rules: &[PolicyRule]) -> Vec<ParsedRule> {
        rules.iter().enumerate().map(|(index, rule)| self.rule(policy, direction, index, rule)).collect()
    }

    fn rule(&mut self, policy: &NetworkPolicy, direction: u8, index: usize, rule: &PolicyRule) -> ParsedRule {
        let (name, list) = if direction == INGRESS { ("ingress", "from") } else { ("egress", "to") };
        let mut peers = Vec::new();
        let unknown_pods = policy.pod_selector.fault().is_some();
        for (at, peer) in rule.peers.iter().enumerate() {
            match Term::parse(peer, &policy.key.namespace) {
                Ok(term) => peers.push(self.intern(term)),
                Err(fault) => {
                    self.report(policy, format!("spec.{name}[{index}].{list}[{at}]{fault}; it allows nothing"));
                }
            }
        }
        let mut ports = Vec::new();
        for (at, port) in rule.ports.iter().enumerate() {
            match PortMatch::parse(port) {
                Ok(port) => {
                    if port.proto == SCTP {
                        self.unsupported(policy, format!("spec.{name}[{index}].ports[{at}].protocol: {NO_SCTP}"));
                    }
                    ports.push(port);
                }
                Err(fault) => {
                    self.report(policy, format!("spec.{name}[{index}].ports[{at}].{fault}; it allows nothing"));
                }
            }
        }
        peers.sort_unstable();
        peers.dedup();
        if unknown_pods {
            peers.clear(); // Whom it means, nobody knows: what it allows must not open other pods.
        }
        let peers = (unknown_pods || !rule.peers.is_empty()).then_some(peers);
        let ports = (!rule.ports.is_empty()).then_some(ports);
        let text = format!(
            "{name}[{index}] {list} {} ports {}",
            list_text(peers.as_ref().map(|ids| ids.iter().map(|id| &self.terms[*id])), "; "),
            list_text(ports.as_ref().map(|ports| ports.iter()), ",")
        );
        ParsedRule { index, peers, ports, text }
    }

    fn intern(&mut self, term: Term) -> TermId {
        let terms = &mut self.terms;
        *self.term_ids.entry(term).or_insert_with_key(|term| {
            terms.push(term.clone());
            terms.len() - 1
        })
    }

    fn report(&mut self, policy: &NetworkPolicy, message: String) {
        self.issue(policy, "InvalidNetworkPolicy", message);
    }

    fn unsupported(&mut self, policy: &NetworkPolicy, message: String) {
        self.issue(policy, "UnsupportedProtocol", message);
    }

    fn issue(&mut self, policy: &NetworkPolicy, reason: &'static str, message: String) {
        self.issues.push(Issue { kind: "NetworkPolicy", key: policy.key.clone(), reason, message });
    }
}

fn list_text<T: fmt::Display>(items: Option<impl Iterator<Item = T>>, separator: &str) -> String {
    match items.map(|items| items.map(|item| item.to_string()).collect::<Vec<_>>()) {
        None => "any".into(),
        Some(items) if items.is_empty() => "none".into(),
        Some(items) => items.join(separator),
    }
}
