//! The scheduler: which node a pod goes to. Upstream's plugins by name, in upstream's order: `filter` says where a pod can
//! go and why not elsewhere, `score` where it should, `preempt` who must go if it can go nowhere.
//!
//! A serial controller: each decision is made on a snapshot that has the last binding in it, so no two pods take the last room.

mod affinity;
mod filter;
mod message;
mod preempt;
mod score;
mod spread;
mod usage;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::{Action, normal, warning},
    controller::{Change, Concurrency, Controller, Key},
    names, resource,
    snapshot::Snapshot,
    view::{Condition, Node, Object, Pod, condition, rfc3339},
};

pub(crate) use filter::selects;
use filter::{Filters, Reason};
pub(crate) use usage::{Amounts, Usage};

pub(crate) const NAME: &str = "default-scheduler";
/// An unschedulable pod is tried again after so long even if nothing changed.
const FLUSH: Duration = Duration::from_secs(300);
/// Fewer nodes than this are always all looked at.
const FEW_NODES: usize = 100;

pub(crate) const CONTROLLER: Controller = Controller {
    name: NAME,
    watches: &[resource::PODS, resource::NODES],
    keys,
    reconcile,
    priority: Some(|snapshot, key| snapshot.pods.get(key).map_or(0, |pod| pod.priority())),
    concurrency: Concurrency::Serial,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    let pending = || snapshot.indexes.pending.iter().cloned();
    match (&change.old, &change.new) {
        (old, Some(Object::Pod(pod))) if pod.spec.node_name.is_empty() => {
            let same =
                matches!(old, Some(Object::Pod(old)) if old.spec == pod.spec && old.meta.labels == pod.meta.labels);
            if same || !ours(pod) { Vec::new() } else { vec![change.key.clone()] }
        }
        (old, Some(Object::Pod(pod))) if !pod.terminated() => {
            // Somebody may wait for this one to be somewhere.
            let same = matches!(old, Some(Object::Pod(old))
                if old.spec.node_name == pod.spec.node_name && old.meta.labels == pod.meta.labels);
            if same { Vec::new() } else { pending().filter(|key| waits_for_pods(snapshot, key)).collect() }
        }
        // Room, or a host port, or a place away from others may be free now.
        (Some(Object::Pod(old)), _) if !old.spec.node_name.is_empty() && !old.terminated() => pending().collect(),
        (Some(Object::Node(old)), Some(Object::Node(new))) if same_for_us(old, new) => Vec::new(),
        (_, Some(Object::Node(_))) | (Some(Object::Node(_)), _) => pending().collect(),
        _ => Vec::new(),
    }
}

fn waits_for_pods(snapshot: &Snapshot, key: &Key) -> bool {
    snapshot.pods.get(key).is_some_and(|pod| {
        !pod.spec.affinity.pod_affinity.required.is_empty() || !pod.spec.topology_spread_constraints.is_empty()
    })
}

fn same_for_us(old: &Node, new: &Node) -> bool {
    old.meta.labels == new.meta.labels
        && old.spec.taints == new.spec.taints
        && old.spec.unschedulable == new.spec.unschedulable
        && old.allocatable() == new.allocatable()
}

fn ours(pod: &Pod) -> bool {
    matches!(pod.spec.scheduler_name.as_str(), "" | NAME)
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(pod) = snapshot.pods.get(key) else { return Vec::new() };
    if !ours(pod) || !pod.spec.node_name.is_empty() || !pod.active() || !pod.spec.scheduling_gates.is_empty() {
        return Vec::new();
    }
    let filters = Filters::new(snapshot, pod);
    let (feasible, rejected) = feasible(snapshot, pod, &filters);
    let Some(node) = best(snapshot, pod, &feasible) else {
        return unschedulable(snapshot, pod, &filters, &rejected, now);
    };
    let message = format!("Successfully assigned {}/{} to {}", pod.meta.namespace, pod.meta.name, node.meta.name);
    vec![
        Action::Bind {
            namespace: pod.meta.namespace.clone(),
            pod: pod.meta.name.clone(),
            uid: pod.meta.uid.clone(),
            node: node.meta.name.clone(),
        },
        Action::Event(normal(NAME, pod.meta.involved("v1", "Pod"), "Scheduled", message)),
    ]
}

/// A node that cannot take the pod, and why.
pub(crate) type Rejected<'a> = (&'a Arc<Node>, Vec<Reason>);

/// Nodes that can take the pod. In a large cluster the search begins at a place that the pod decides, and ends when
/// there are enough to choose from.
fn feasible<'a>(snapshot: &'a Snapshot, pod: &Pod, filters: &Filters<'_>) -> (Vec<&'a Arc<Node>>, Vec<Rejected<'a>>) {
    let nodes: Vec<&Arc<Node>> = snapshot.nodes.values().filter(|node| !node.meta.deleting()).collect();
    let enough = enough(nodes.len());
    let start = usize::try_from(names::hash(&[pod.meta.uid.as_bytes()]) % nodes.len().max(1) as u64).unwrap_or(0);
    let (mut feasible, mut rejected) = (Vec::new(), Vec::new());
    for node in nodes[start..].iter().chain(&nodes[..start]) {
        let reasons = filters.check(node);
        if !reasons.is_empty() {
            rejected.push((*node, reasons));
            continue;
        }
        feasible.push(*node);
        if feasible.len() >= enough {
            break;
        }
    }
    (feasible, rejected)
}

/// Upstream's adaptive percentageOfNodesToScore: half of the nodes, less in larger clusters, at least 5 %.
fn enough(nodes: usize) -> usize {
    if nodes <= FEW_NODES {
        return nodes.max(1);
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(FEW_NODES)
}

/// The node with the highest score; among equals the pod's uid decides, so that pods spread and a retry does not.
fn best<'a>(snapshot: &Snapshot, pod: &Pod, feasible: &[&'a Arc<Node>]) -> Option<&'a Arc<Node>> {
    if let [only] = feasible {
        return Some(only);
    }
    let scores = score::total(snapshot, pod, feasible);
    let tie = |node: &Node| names::hash(&[pod.meta.uid.as_bytes(), node.meta.name.as_bytes()]);
    feasible.iter().zip(scores).max_by_key(|(node, score)| (*score, tie(node))).map(|(node, _)| *node)
}

fn unschedulable(
    snapshot: &Snapshot,
    pod: &Pod,
    filters: &Filters<'_>,
    rejected: &[Rejected<'_>],
    now: Timestamp,
) -> Vec<Action> {
    let preemption = preempt::plan(snapshot, pod, filters, rejected, now);
    let message = message::fit_error(rejected, &preemption.note);
    let mut actions = preemption.actions;
    let old = condition(&pod.status.conditions, "PodScheduled");
    let said = old.is_some_and(|c| c.status == "False" && c.reason == "Unschedulable" && c.message == message);
    if !said || preemption.nominated.is_some() {
        let transition = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
        let mut conditions = pod.status.conditions.clone();
        conditions.retain(|c| c.type_ != "PodScheduled");
        conditions.push(Condition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: "Unschedulable".to_owned(),
            message: message.clone(),
            last_transition_time: transition.or_else(|| Some(rfc3339(now))),
            ..Condition::default()
        });
        let mut status = json!({ "conditions": conditions });
        if let Some(node) = preemption.nominated {
            status["nominatedNodeName"] = node.into();
        }
        actions.push(Action::patch_exact(resource::PODS, &pod.meta, Some("status"), json!({ "status": status })));
    }
    actions.push(Action::Event(warning(NAME, pod.meta.involved("v1", "Pod"), "FailedScheduling", message)));
    actions.push(Action::RequeueAfter(FLUSH));
    actions
}

#[cfg(test)]
mod tests;
