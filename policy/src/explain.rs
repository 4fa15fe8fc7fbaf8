//! Why a flow passes or not, in the words of the policies: what `weft policy explain` prints, for a live cluster or for
//! YAML files. It compiles for the two pods concerned as their nodes do, and asks those tables.
use std::{collections::BTreeSet, fmt, net::IpAddr};

use abi::policy::{EGRESS, INGRESS};
use objects::{Key, Pod};

use crate::{
    compile::{Input, LocalPod, compile},
    judge::{Judge, Query, Verdict},
    tables::{Output, Rule},
};

/// One end of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Party {
    /// A pod, by name.
    Pod(Key),
    /// Any address: a pod's, a node's or a stranger's.
    Address(IpAddr),
}

/// A flow's first packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who sends.
    pub from: Party,
    /// Who receives: the backend, if it was sent to a service.
    pub to: Party,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port; 0 for protocols without.
    pub port: u16,
}

/// The answer of both sides; a flow passes if both let it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The sender's policies.
    pub egress: Finding,
    /// The receiver's policies.
    pub ingress: Finding,
}

/// What the policies of one side say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// No pod of the cluster's network is on this side.
    NoPod,
    /// A pod always reaches itself.
    Itself,
    /// A node always reaches its own pods: its probes must.
    OwnNode(Key),
    /// No policy isolates the pod in this direction.
    NotIsolated(Key),
    /// This rule allows it.
    Allowed(Key, Rule),
    /// This rule denies it.
    Denied(Key, Rule),
    /// These policies isolate the pod, and none of their rules allows it.
    NoRule(Key, Vec<Key>),
}

/// The question has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// No such pod.
    UnknownPod(Key),
    /// The pod has no address yet.
    NoAddress(Key),
    /// One side has IPv4 addresses only, the other IPv6.
    NoCommonFamily,
}

/// Asks. `input.local` is not looked at: both pods are taken as local.
///
/// # Errors
/// If a party cannot be found.
pub fn explain(input: &Input, question: &Question) -> Result<Explanation, NoAnswer> {
    let from = End::find(input, &question.from)?;
    let to = End::find(input, &question.to)?;
    let (source, destination) = common_family(&from.addresses, &to.addresses).ok_or(NoAnswer::NoCommonFamily)?;
    if from.pod.is_some() && from.pod.map(|pod| &pod.key) == to.pod.map(|pod| &pod.key) {
        return Ok(Explanation { egress: Finding::Itself, ingress: Finding::Itself });
    }
    let pods: BTreeSet<&Key> = [&from, &to].iter().filter_map(|end| Some(&end.pod?.key)).collect();
    let local: Vec<LocalPod> = pods.into_iter().filter_map(|key| Some(local(input.pods.get(key)?))).collect();
    let tables = compile(&Input { local: &local, ..*input });
    let side = |end: &End, direction: u8, peer: IpAddr| match end.pod {
        None => Finding::NoPod,
        Some(pod) => find(&tables, pod, direction, peer, question),
    };
    let ingress = match to.pod {
        Some(pod) if from.host.is_some_and(|node| *node == *pod.node) => Finding::OwnNode(pod.key.clone()),
        _ => side(&to, INGRESS, source),
    };
    Ok(Explanation { egress: side(&from, EGRESS, destination), ingress })
}

impl Explanation {
    /// True if the flow passes.
    pub fn passes(&self) -> bool {
        [&self.egress, &self.ingress]
            .iter()
            .all(|finding| !matches!(finding, Finding::Denied(..) | Finding::NoRule(..)))
    }
}

fn local(pod: &std::sync::Arc<Pod>) -> LocalPod {
    LocalPod { key: pod.key.clone(), uid: pod.uid.clone(), addresses: pod.addresses.to_vec() }
}

/// A party, looked up.
struct End<'a> {
    /// Of the cluster's network; pods of the host's are their node.
    pod: Option<&'a Pod>,
    /// The node whose network it shares, of a pod of the host's network.
    host: Option<&'a str>,
    addresses: Vec<IpAddr>,
}

impl<'a> End<'a> {
    fn find(input: &Input<'a>, party: &Party) -> Result<End<'a>, NoAnswer> {
        let (pod, addresses) = match party {
            Party::Pod(key) => {
                let pod = input.pods.get(key).ok_or_else(|| NoAnswer::UnknownPod(key.clone()))?;
                if pod.addresses.is_empty() {
                    return Err(NoAnswer::NoAddress(key.clone()));
                }
                (Some(pod), pod.addresses.to_vec())
            }
            Party::Address(address) => {
                let owner = input.pods.values().find(|pod| !pod.terminated() && pod.addresses.contains(address));
                (owner, vec![*address])
            }
        };
        let host = pod.filter(|pod| pod.host_network && !pod.node.is_empty()).map(|pod| &*pod.node);
        Ok(End { pod: pod.map(|pod| &**pod).filter(|pod| !pod.host_network), host, addresses })
    }
}

fn common_family(from: &[IpAddr], to: &[IpAddr]) -> Option<(IpAddr, IpAddr)> {
    from.iter().find_map(|source| {
        let same = to.iter().find(|destination| destination.is_ipv4() == source.is_ipv4())?;
        Some((*source, *same))
    })
}

fn find(tables: &Output, pod: &Pod, direction: u8, peer: IpAddr, question: &Question) -> Finding {
    let key = pod.key.clone();
    let row = tables.pods[&key];
    let query = Query { pod: row, direction, peer: peer.into(), proto: question.proto, port: question.port };
    match Judge::new(tables).judge(&query) {
        Verdict::NotIsolated => Finding::NotIsolated(key),
        Verdict::Allowed(rule) => Finding::Allowed(key, tables.rules[&rule].clone()),
        Verdict::Denied(rule) => Finding::Denied(key, tables.rules[&rule].clone()),
        Verdict::DefaultDeny => {
            let set = &tables.sets[&row.set];
            Finding::NoRule(key, if direction == INGRESS { set.ingress.clone() } else { set.egress.clone() })
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.passes() { "allowed" } else { "denied" })?;
        writeln!(f, "  egress: {}", self.egress)?;
        writeln!(f, "  ingress: {}", self.ingress)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NoPod => f.write_str("passes: no pod of the cluster's network on this side"),
            Finding::Itself => f.write_str("passes: a pod always reaches itself"),
            Finding::OwnNode(pod) => write!(f, "passes: a node always reaches its own pod {pod}"),
            Finding::NotIsolated(pod) => write!(f, "passes: no policy isolates {pod}"),
            Finding::Allowed(pod, rule) => write!(f, "passes: {pod} by {} {}", rule.policy, rule.text),
            Finding::Denied(pod, rule) => write!(f, "denied: {pod} by {} {}", rule.policy, rule.text),
            Finding::NoRule(pod, policies) => {
                let names: Vec<String> = policies.iter().map(Key::to_string).collect();
                write!(f, "denied: {pod} is isolated by {}, and no rule allows it", names.join(", "))
            }
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::UnknownPod(key) => write!(f, "pod {key} not found"),
            NoAnswer::NoAddress(key) => write!(f, "pod {key} has no address yet"),
            NoAnswer::NoCommonFamily => f.write_str("the two have no addresses of the same family"),
        }
    }
}

impl std::error::Error for NoAnswer {}

#[cfg(test)]
mod tests;
