//! DefaultPreemption: if a pod fits nowhere, which pods of lower priority make room. Upstream: plugins/defaultpreemption.
//!
//! The pod is not bound here: its victims end with their grace, their going wakes all waiting pods, and the one with
//! the highest priority comes first.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use serde_json::json;

use super::{NAME, Rejected, Usage, filter::Filters, message::histogram};
use crate::{
    action::{Action, normal},
    disruption::with_disruption,
    resource,
    snapshot::Snapshot,
    view::{Node, Pod},
};

/// What to do, and what to tell.
#[derive(Default)]
pub(super) struct Preemption {
    pub(super) actions: Vec<Action>,
    pub(super) nominated: Option<String>,
    /// The `preemption: …` part of the pod's message.
    pub(super) note: String,
}

/// Looks for the node where it hurts least.
pub(super) fn plan(
    snapshot: &Snapshot,
    pod: &Pod,
    filters: &Filters<'_>,
    rejected: &[Rejected<'_>],
    now: Timestamp,
) -> Preemption {
    if pod.spec.preemption_policy == "Never" {
        return told("preemption: not eligible due to preemptionPolicy=Never.");
    }
    if waits_for_victims(snapshot, pod) {
        return told("preemption: not eligible due to a terminating pod on the nominated node.");
    }
    let helpful = |reasons: &[super::Reason]| reasons.iter().all(|reason| reason.resolvable);
    let candidates = rejected
        .iter()
        .filter(|(_, reasons)| helpful(reasons))
        .filter_map(|(node, _)| Some((*node, victims(snapshot, pod, filters, node)?)));
    let best = candidates.min_by_key(|(node, victims)| {
        let highest = victims.iter().map(|victim| victim.priority()).max().unwrap_or(i64::MIN);
        let sum: i64 = victims.iter().map(|victim| victim.priority()).sum();
        (highest, sum, victims.len(), node.meta.name.clone())
    });
    let Some((node, victims)) = best else {
        let reasons = rejected.iter().map(|(_, reasons)| {
            if helpful(reasons) {
                "No preemption victims found for incoming pod"
            } else {
                "Preemption is not helpful for scheduling"
            }
        });
        return told(&format!("preemption: 0/{} nodes are available: {}.", rejected.len(), histogram(reasons)));
    };
    Preemption {
        actions: victims.iter().flat_map(|victim| evict(victim, pod, node, now)).collect(),
        nominated: Some(node.meta.name.clone()),
        note: String::new(),
    }
}

fn told(note: &str) -> Preemption {
    Preemption { note: note.to_owned(), ..Preemption::default() }
}

/// Its victims were told already.
fn waits_for_victims(snapshot: &Snapshot, pod: &Pod) -> bool {
    let node = &pod.status.nominated_node_name;
    !node.is_empty()
        && snapshot
            .pods_on(node)
            .any(|other| other.meta.deleting() && !other.terminated() && other.priority() < pod.priority())
}

/// The pods that must go from a node, least important first; none if even all lower ones would not do.
fn victims<'a>(snapshot: &'a Snapshot, pod: &Pod, filters: &Filters<'_>, node: &Node) -> Option<Vec<&'a Arc<Pod>>> {
    let mut lower: Vec<&Arc<Pod>> = snapshot
        .pods_on(&node.meta.name)
        .filter(|other| !other.terminated() && other.priority() < pod.priority())
        .collect();
    if lower.is_empty() {
        return None;
    }
    // The most important, and among equals the longest running, are given back first.
    lower.sort_by_key(|other| (std::cmp::Reverse(other.priority()), other.meta.created(), other.meta.name.clone()));
    let mut usage: HashMap<String, Usage> = HashMap::new();
    if let Some(now) = snapshot.usage.get(&node.meta.name) {
        usage.insert(node.meta.name.clone(), now.clone());
    }
    for other in &lower {
        Usage::remove_pod(&mut usage, other);
    }
    let fits = |usage: &HashMap<String, Usage>| {
        let none = Usage::default();
        filters.check_with(node, usage.get(&node.meta.name).unwrap_or(&none)).is_empty()
    };
    if !fits(&usage) {
        return None;
    }
    let mut victims = Vec::new();
    for other in lower {
        Usage::add_pod(&mut usage, other);
        if !fits(&usage) {
            Usage::remove_pod(&mut usage, other);
            victims.push(other);
        }
    }
    (!victims.is_empty()).then_some(victims)
}

fn evict(victim: &Pod, pod: &Pod, node: &Node, now: Timestamp) -> Vec<Action> {
    if victim.meta.deleting() {
        return Vec::new();
    }
    let reason = format!("{NAME}: preempting to accommodate a higher priority pod");
    let conditions = with_disruption(victim, "PreemptionByScheduler", &reason, now);
    let message = format!("Preempted by pod {} on node {}", pod.meta.uid, node.meta.name);
    vec![
        Action::patch_exact(
            resource::PODS,
            &victim.meta,
            Some("status"),
            json!({ "status": { "conditions": conditions } }),
        ),
        Action::delete(resource::PODS, &victim.meta),
        Action::Event(normal(NAME, victim.meta.involved("v1", "Pod"), "Preempted", message)),
    ]
}
