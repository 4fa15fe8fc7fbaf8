//! PodTopologySpread: pods of a kind evenly over nodes, zones or whatever a label names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::filter::{Reason, selects};
use crate::{
    resource,
    snapshot::Snapshot,
    view::{Expression, LabelSelector, Node, Pod, SpreadConstraint, tolerated},
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The hard constraints of a pod, with what is there counted.
pub(super) struct Spread(Vec<Counted>);

struct Counted {
    key: String,
    max_skew: i64,
    /// 1 if the pod counts for its own constraint.
    own: i64,
    min: i64,
    by_value: HashMap<String, i64>,
}

impl Spread {
    /// Counts for `whenUnsatisfiable: DoNotSchedule`.
    pub(super) fn required(snapshot: &Snapshot, pod: &Pod) -> Self {
        let hard: Vec<&SpreadConstraint> =
            pod.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable != "ScheduleAnyway").collect();
        let keys: Vec<&str> = hard.iter().map(|c| c.topology_key.as_str()).collect();
        Self(
            hard.iter()
                .map(|constraint| {
                    let selector = selector(constraint, pod);
                    let eligible = |node: &&Arc<Node>| {
                        keys.iter().all(|key| node.meta.label(key).is_some()) && counts(constraint, pod, node)
                    };
                    let matching = |other: &Pod| selector.matches(&other.meta.labels);
                    let nodes = snapshot.nodes.values().filter(eligible);
                    let by_value =
                        by_value(snapshot, &constraint.topology_key, nodes, pods_of(snapshot, pod), &matching);
                    let domains = i64::try_from(by_value.len()).unwrap_or(i64::MAX);
                    let too_few = domains < constraint.min_domains.unwrap_or(1);
                    Counted {
                        key: constraint.topology_key.clone(),
                        max_skew: constraint.max_skew,
                        own: i64::from(selector.matches(&pod.meta.labels)),
                        min: if too_few { 0 } else { by_value.values().copied().min().unwrap_or(0) },
                        by_value,
                    }
                })
                .collect(),
        )
    }

    pub(super) fn check(&self, node: &Node) -> Option<Reason> {
        const TEXT: &str = "node(s) didn't match pod topology spread constraints";
        for counted in &self.0 {
            let Some(value) = node.meta.label(&counted.key) else {
                return Some(Reason::new(format!("{TEXT} (missing required label)"), false));
            };
            let there = counted.by_value.get(value).copied().unwrap_or(0);
            if there + counted.own - counted.min > counted.max_skew {
                return Some(Reason::new(TEXT, true));
            }
        }
        None
    }
}

/// Whether a node is part of the whole over which is spread.
fn counts(constraint: &SpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let affinity = constraint.node_affinity_policy == "Ignore" || selects(pod, node);
    let hard = node.spec.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    let taints =
        constraint.node_taints_policy != "Honor" || hard.into_iter().all(|t| tolerated(t, &pod.spec.tolerations));
    affinity && taints
}

/// The constraint's selector, with the pod's own values of `matchLabelKeys`.
fn selector(constraint: &SpreadConstraint, pod: &Pod) -> LabelSelector {
    let Some(mut selector) = constraint.label_selector.clone() else { return nothing() };
    for key in &constraint.match_label_keys {
        if let Some(value) = pod.meta.label(key) {
            let values = vec![value.to_owned()];
            selector.match_expressions.push(Expression { key: key.clone(), operator: "In".to_owned(), values });
        }
    }
    selector
}

fn nothing() -> LabelSelector {
    // No selector selects nothing: a label cannot be there and not there.
    let of = |operator: &str| Expression { key: String::new(), operator: operator.to_owned(), values: Vec::new() };
    LabelSelector { match_labels: BTreeMap::new(), match_expressions: vec![of("Exists"), of("DoesNotExist")] }
}

/// Pods of the same namespace that stay.
fn pods_of<'a>(snapshot: &'a Snapshot, pod: &'a Pod) -> Vec<&'a Arc<Pod>> {
    snapshot.pods.in_namespace(&pod.meta.namespace).filter(|other| staying(other)).collect()
}

fn staying(pod: &Pod) -> bool {
    !pod.spec.node_name.is_empty() && pod.active()
}

/// How many matching pods each value of a topology has.
fn by_value<'a>(
    snapshot: &Snapshot,
    key: &str,
    nodes: impl Iterator<Item = &'a Arc<Node>>,
    pods: Vec<&Arc<Pod>>,
    matching: &dyn Fn(&Pod) -> bool,
) -> HashMap<String, i64> {
    let mut counts: HashMap<String, i64> =
        nodes.filter_map(|node| Some((node.meta.label(key)?.to_owned(), 0))).collect();
    for pod in pods.into_iter().filter(|pod| matching(pod)) {
        let node = snapshot.nodes.named("", &pod.spec.node_name);
        if let Some(value) = node.and_then(|node| node.meta.label(key))
            && let Some(count) = counts.get_mut(value)
        {
            *count += 1;
        }
    }
    counts
}

/// One soft constraint, counted.
struct Soft {
    key: String,
    max_skew: i64,
    by_value: HashMap<String, i64>,
}

/// Soft constraints: the pod's own, else the cluster's defaults over the pods of the same owner.
pub(super) fn score(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let soft = soft(snapshot, pod, nodes);
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    // Thousandths, because the weight of a topology is a logarithm.
    let raw: Vec<i64> = nodes
        .iter()
        .map(|node| {
            soft.iter()
                .filter_map(|constraint| {
                    let value = node.meta.label(&constraint.key)?;
                    let there = constraint.by_value.get(value).copied().unwrap_or(0);
                    Some(there * weight(constraint.by_value.len()) + (constraint.max_skew - 1) * 1000)
                })
                .sum()
        })
        .collect();
    let (min, max) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|score| if max == 0 { 100 } else { 100 * (max + min - score) / max }).collect()
}

/// ln(domains + 2) in thousandths.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a logarithm of a number of nodes")]
fn weight(domains: usize) -> i64 {
    (((domains + 2) as f64).ln() * 1000.0) as i64
}

fn soft(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<Soft> {
    if pod.spec.topology_spread_constraints.is_empty() {
        return defaults(snapshot, pod, nodes);
    }
    let constraints = pod.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable == "ScheduleAnyway");
    constraints
        .map(|constraint| {
            let selector = selector(constraint, pod);
            let matching = |other: &Pod| selector.matches(&other.meta.labels);
            let key = &constraint.topology_key;
            Soft {
                key: key.clone(),
                max_skew: constraint.max_skew,
                by_value: by_value(snapshot, key, nodes.iter().copied(), pods_of(snapshot, pod), &matching),
            }
        })
        .collect()
}

/// Upstream's system defaults: hostname with skew 3, zone with skew 5.
fn defaults(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<Soft> {
    let Some(owner) = pod.meta.controller() else { return Vec::new() };
    let siblings: Vec<&Arc<Pod>> =
        snapshot.owned(&owner.uid, resource::PODS, &snapshot.pods).into_iter().filter(|pod| staying(pod)).collect();
    [(HOSTNAME, 3), (ZONE, 5)]
        .into_iter()
        .filter(|(key, _)| nodes.iter().any(|node| node.meta.label(key).is_some()))
        .map(|(key, max_skew)| Soft {
            key: key.to_owned(),
            max_skew,
            by_value: by_value(snapshot, key, nodes.iter().copied(), siblings.clone(), &|_| true),
        })
        .collect()
}
