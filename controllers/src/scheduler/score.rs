//! Score plugins: where a pod should go. Each gives 0 to 100 per node; weights are upstream's.

use std::sync::Arc;

use super::{affinity, spread, usage};
use crate::{
    snapshot::Snapshot,
    view::{Node, Pod, tolerated},
};

const MAX: i64 = 100;

type Plugin = fn(&Snapshot, &Pod, &[&Arc<Node>]) -> Vec<i64>;

const PLUGINS: [(i64, Plugin); 6] = [
    (3, taint_toleration),
    (2, node_affinity),
    (2, spread::score),
    (2, affinity::score),
    (1, node_resources_fit),
    (1, node_resources_balanced_allocation),
];

/// The weighted sum of all plugins, node by node.
pub(super) fn total(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let mut total = vec![0; nodes.len()];
    for (weight, plugin) in PLUGINS {
        for (sum, score) in total.iter_mut().zip(plugin(snapshot, pod, nodes)) {
            *sum += weight * score;
        }
    }
    total
}

/// Scaled so that the highest is 100; `reverse` makes the lowest the best.
pub(super) fn normalize(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let max = scores.iter().copied().max().unwrap_or(0);
    let scaled = move |score: i64| if max == 0 { 0 } else { score * MAX / max };
    scores.into_iter().map(|score| if reverse { MAX - scaled(score) } else { scaled(score) }).collect()
}

/// Fewer PreferNoSchedule taints that the pod does not tolerate.
fn taint_toleration(_: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let soft = |node: &Arc<Node>| {
        let taints = node.spec.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        count(taints.filter(|taint| !tolerated(taint, &pod.spec.tolerations)))
    };
    normalize(nodes.iter().map(|node| soft(node)).collect(), true)
}

fn count(items: impl Iterator) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX)
}

/// Preferred terms that the node meets, by their weights.
fn node_affinity(_: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let preferred = &pod.spec.affinity.node_affinity.preferred;
    let score = |node: &Arc<Node>| {
        let met = preferred.iter().filter(|term| term.preference.matches(&node.meta.name, &node.meta.labels));
        met.map(|term| term.weight).sum()
    };
    normalize(nodes.iter().map(|node| score(node)).collect(), false)
}

/// CPU and memory: what would be taken with this pod, and what there is.
fn shares(snapshot: &Snapshot, pod: &Pod, node: &Node) -> [(i64, i64); 2] {
    let (cpu, memory) = usage::scored(pod);
    let (used_cpu, used_memory) = snapshot.usage.get(&node.meta.name).map_or((0, 0), |usage| usage.scored);
    let room = |resource: &str| snapshot.room.get(&node.meta.name).and_then(|r| r.get(resource)).copied().unwrap_or(0);
    [(used_cpu + cpu, room("cpu")), (used_memory + memory, room("memory"))]
}

/// LeastAllocated: the emptier the better.
fn node_resources_fit(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let free = |(taken, room): (i64, i64)| if room == 0 || taken > room { 0 } else { (room - taken) * MAX / room };
    let score = |node: &Arc<Node>| shares(snapshot, pod, node).map(free).iter().sum::<i64>() / 2;
    nodes.iter().map(|node| score(node)).collect()
}

/// CPU and memory in the same proportion: 100 less the standard deviation of the two fractions.
fn node_resources_balanced_allocation(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let percent = |(taken, room): (i64, i64)| if room == 0 { 0 } else { (taken * 1000 / room).min(1000) };
    let score = |node: &Arc<Node>| {
        let [cpu, memory] = shares(snapshot, pod, node).map(percent);
        (1000 - (cpu - memory).abs() / 2) / 10
    };
    nodes.iter().map(|node| score(node)).collect()
}
