//! An answer for people and programs: the verdict of each side, the line that decided, and why other lines did not.
use std::net::IpAddr;

use abi::policy::{EGRESS, INGRESS};
use objects::{Key, Pod};
use policy::{
    Explanation, Finding, Party, Question,
    why::{self, RuleFinding, Sight},
};
use serde::Serialize;

use super::{lines, source::Objects};

/// What is answered on one flow.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    from: String,
    to: String,
    protocol: String,
    allowed: bool,
    egress: Side,
    ingress: Side,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// What the policies of one end say.
#[derive(Debug, Serialize)]
struct Side {
    allowed: bool,
    reason: String,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<Line>,
    /// The policies that isolate the pod in this direction.
    isolated_by: Vec<String>,
    /// The rules that do not allow the flow.
    others: Vec<Line>,
}

/// A rule, or a part of it.
#[derive(Debug, Serialize)]
struct Line {
    policy: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    why_not: String,
}

/// Asks.
pub(super) fn answer(objects: &Objects, question: &Question) -> anyhow::Result<Answer> {
    let input = objects.input();
    let explanation = policy::explain(&input, question)?;
    let ends = [find(objects, &question.from), find(objects, &question.to)];
    let carried = !matches!(question.proto, 132);
    let mut notes = Vec::new();
    if !carried {
        notes.push("SCTP is not carried between pods: its packets are dropped, whatever the policies say".to_owned());
    }
    let invented = |end: &&(Option<&Pod>, Vec<IpAddr>)| end.0.is_some_and(|pod| objects.invented.contains(&pod.key));
    for (pod, _) in ends.iter().filter(invented) {
        let name = pod.map(|pod| pod.key.to_string()).unwrap_or_default();
        notes.push(format!("{name} has no address in the files: ipBlock rules are taken not to contain it"));
    }
    let Explanation { egress, ingress } = &explanation;
    Ok(Answer {
        from: said(&ends[0]),
        to: said(&ends[1]),
        protocol: protocol(question),
        allowed: explanation.passes() && carried,
        egress: side(objects, question, EGRESS, egress, &ends),
        ingress: side(objects, question, INGRESS, ingress, &ends),
        notes,
    })
}

type End<'a> = (Option<&'a Pod>, Vec<IpAddr>);

fn find<'a>(objects: &'a Objects, party: &Party) -> End<'a> {
    match party {
        Party::Pod(key) => {
            let pod = objects.pods.get(key).map(|pod| &**pod);
            (pod, pod.map(|pod| pod.addresses.to_vec()).unwrap_or_default())
        }
        Party::Address(address) => {
            let owns = |pod: &&Pod| !pod.terminated() && pod.addresses.contains(address);
            (objects.pods.values().map(|pod| &**pod).find(owns), vec![*address])
        }
    }
}

fn said((pod, addresses): &End) -> String {
    let address = addresses.first().map(IpAddr::to_string).unwrap_or_default();
    match pod {
        Some(pod) if pod.host_network => format!("{} ({address}, the host's network)", pod.key),
        Some(pod) => format!("{} ({address})", pod.key),
        None => address,
    }
}

fn protocol(question: &Question) -> String {
    match question.proto {
        6 => format!("TCP {}", question.port),
        17 => format!("UDP {}", question.port),
        132 => format!("SCTP {}", question.port),
        _ => "ICMP".to_owned(),
    }
}

fn side(objects: &Objects, question: &Question, direction: u8, finding: &Finding, ends: &[End; 2]) -> Side {
    let (own, other) = if direction == EGRESS { (&ends[0], &ends[1]) } else { (&ends[1], &ends[0]) };
    let allowed = !matches!(finding, Finding::Denied(..) | Finding::NoRule(..));
    let mut side =
        Side { allowed, reason: reason(finding), decided: None, isolated_by: Vec::new(), others: Vec::new() };
    let judged = matches!(finding, Finding::Allowed(..) | Finding::Denied(..) | Finding::NoRule(..));
    let (Some(pod), true) = (own.0, judged) else { return side };
    let families = |address: &&IpAddr| own.1.iter().any(|own| own.is_ipv4() == address.is_ipv4());
    let Some(peer) = other.1.iter().find(families).copied() else { return side };
    let peer_pod = other.0.filter(|pod| !pod.host_network);
    let sight = Sight { pod, direction, peer, peer_pod, proto: question.proto, port: question.port };
    let found = why::rules(&objects.input(), &sight);
    let decided = |one: &&RuleFinding| match finding {
        Finding::Allowed(_, rule) | Finding::Denied(_, rule) => rule.policy == one.policy && rule.index == one.index,
        _ => false,
    };
    side.decided = found.iter().find(decided).map(|one| line(objects, one));
    side.others = found.iter().filter(|one| !one.why_not.is_empty()).map(|one| line(objects, one)).collect();
    side.isolated_by = isolating(objects, pod, direction).iter().map(Key::to_string).collect();
    side
}

/// The policies that isolate a pod in a direction.
pub(super) fn isolating(objects: &Objects, pod: &Pod, direction: u8) -> Vec<Key> {
    let isolates = objects.policies.values().filter(|policy| {
        policy.key.namespace == pod.key.namespace
            && (policy.pod_selector.fault().is_some() || policy.pod_selector.matches(&pod.labels))
            && if direction == EGRESS { policy.isolates_egress() } else { policy.isolates_ingress() }
    });
    isolates.map(|policy| policy.key.clone()).collect()
}

fn reason(finding: &Finding) -> String {
    match finding {
        Finding::NoPod => "no pod of the cluster's network is on this side".to_owned(),
        Finding::Itself => "a pod always reaches itself".to_owned(),
        Finding::OwnNode(pod) => format!("a node always reaches its own pod {pod}"),
        Finding::NotIsolated(pod) => format!("no policy isolates {pod}"),
        Finding::Allowed(_, rule) | Finding::Denied(_, rule) => format!("by {}", rule.policy),
        Finding::NoRule(pod, policies) => {
            let names: Vec<String> = policies.iter().map(Key::to_string).collect();
            format!("{pod} is isolated by {}, and no rule allows this", names.join(", "))
        }
    }
}

fn line(objects: &Objects, finding: &RuleFinding) -> Line {
    let (policy, path) = (finding.policy.to_string(), finding.path());
    Line { policy, place: place(objects, &finding.policy, &path), path, why_not: finding.why_not.clone() }
}

/// File and line of a policy's field.
pub(super) fn place(objects: &Objects, policy: &Key, path: &str) -> Option<String> {
    let place = objects.places.get(policy)?;
    Some(format!("{}:{}", place.file, place.first + lines::line(&place.text, path)))
}

impl Answer {
    pub(super) fn allowed(&self) -> bool {
        self.allowed
    }

    /// For people.
    pub(super) fn text(&self, verbose: bool) -> String {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        let mut text = format!("{verdict}: {} -> {} {}\n", self.from, self.to, self.protocol);
        for (name, side) in [("egress", &self.egress), ("ingress", &self.ingress)] {
            let verdict = if side.allowed { "allowed" } else { "denied" };
            text += &format!("  {name}: {verdict}: {}\n", side.reason);
            if let Some(line) = &side.decided {
                text += &format!("    {}\n", line.text());
            }
            if verbose {
                text += &side.more();
            }
        }
        self.notes.iter().for_each(|note| text += &format!("  note: {note}\n"));
        text
    }
}

impl Side {
    fn more(&self) -> String {
        let mut text = String::new();
        if !self.isolated_by.is_empty() {
            text += &format!("    isolated by {}\n", self.isolated_by.join(", "));
        }
        for line in &self.others {
            text += &format!("    not {}: {}\n", line.text(), line.why_not);
        }
        text
    }
}

impl Line {
    fn text(&self) -> String {
        let place = self.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
        format!("{} {}{place}", self.policy, self.path)
    }
}
