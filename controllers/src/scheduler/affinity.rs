//! InterPodAffinity: with whom a pod must, must not, would rather and would rather not be.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::filter::Reason;
use crate::{
    snapshot::Snapshot,
    view::{Expression, LabelSelector, Node, Pod, PodTerm},
};

/// A label of nodes and one of its values.
type Place = (String, String);

/// Required terms, turned into places.
pub(super) struct PodTerms {
    /// Per required affinity term: its topology, and the values where a matching pod is.
    wanted: Vec<(String, HashSet<String>)>,
    /// Nobody matches yet, but the pod matches itself: it may be the first of its kind.
    first: bool,
    avoided: HashSet<Place>,
    /// Where existing pods do not want this one.
    unwelcome: HashSet<Place>,
}

impl PodTerms {
    pub(super) fn required(snapshot: &Snapshot, pod: &Pod) -> Self {
        let affinity = &pod.spec.affinity.pod_affinity.required;
        let anti = &pod.spec.affinity.pod_anti_affinity.required;
        let mut wanted: Vec<(String, HashSet<String>)> =
            affinity.iter().map(|term| (term.topology_key.clone(), HashSet::new())).collect();
        let mut avoided = HashSet::new();
        if !affinity.is_empty() || !anti.is_empty() {
            for (other, node) in placed(snapshot, snapshot.pods.values()) {
                if !affinity.is_empty() && affinity.iter().all(|term| matches(snapshot, term, pod, other)) {
                    for (key, values) in &mut wanted {
                        values.extend(node.meta.label(key).map(ToOwned::to_owned));
                    }
                }
                let matching = anti.iter().filter(|term| matches(snapshot, term, pod, other));
                avoided.extend(matching.filter_map(|term| place(node, &term.topology_key)));
            }
        }
        let nobody = wanted.iter().all(|(_, values)| values.is_empty());
        let first = nobody && affinity.iter().all(|term| matches(snapshot, term, pod, pod));
        Self { wanted, first, avoided, unwelcome: unwelcome(snapshot, pod) }
    }

    pub(super) fn check(&self, node: &Node) -> Option<Reason> {
        let met = self
            .wanted
            .iter()
            .all(|(key, values)| node.meta.label(key).is_some_and(|value| self.first || values.contains(value)));
        if !met {
            return Some(Reason::new("node(s) didn't match pod affinity rules", false));
        }
        let at = |places: &HashSet<Place>| places.iter().any(|(key, value)| node.meta.label(key) == Some(value));
        if at(&self.avoided) {
            return Some(Reason::new("node(s) didn't match pod anti-affinity rules", true));
        }
        at(&self.unwelcome).then(|| Reason::new("node(s) didn't satisfy existing pods anti-affinity rules", true))
    }
}

/// Places of existing pods whose required anti-affinity is against this pod.
fn unwelcome(snapshot: &Snapshot, pod: &Pod) -> HashSet<Place> {
    let mut places = HashSet::new();
    for (other, node) in placed(snapshot, with_terms(snapshot)) {
        let terms = other.spec.affinity.pod_anti_affinity.required.iter();
        let against = terms.filter(|term| matches(snapshot, term, other, pod));
        places.extend(against.filter_map(|term| place(node, &term.topology_key)));
    }
    places
}

fn with_terms(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Pod>> {
    snapshot.indexes.with_affinity.iter().filter_map(|key| snapshot.pods.get(key))
}

/// Pods that are on a node, with it.
fn placed<'a>(
    snapshot: &'a Snapshot,
    pods: impl Iterator<Item = &'a Arc<Pod>>,
) -> impl Iterator<Item = (&'a Arc<Pod>, &'a Arc<Node>)> {
    pods.filter(|pod| !pod.spec.node_name.is_empty() && !pod.terminated())
        .filter_map(|pod| Some((pod, snapshot.nodes.named("", &pod.spec.node_name)?)))
}

fn place(node: &Node, key: &str) -> Option<Place> {
    Some((key.to_owned(), node.meta.label(key)?.to_owned()))
}

/// Whether a term of `holder` is about `other`.
fn matches(snapshot: &Snapshot, term: &PodTerm, holder: &Pod, other: &Pod) -> bool {
    in_namespaces(snapshot, term, holder, &other.meta.namespace)
        && term.label_selector.as_ref().is_some_and(|selector| {
            if term.match_label_keys.is_empty() && term.mismatch_label_keys.is_empty() {
                selector.matches(&other.meta.labels)
            } else {
                with_keys(selector, term, holder).matches(&other.meta.labels)
            }
        })
}

fn in_namespaces(snapshot: &Snapshot, term: &PodTerm, holder: &Pod, namespace: &str) -> bool {
    if term.namespaces.is_empty() && term.namespace_selector.is_none() {
        return holder.meta.namespace == namespace;
    }
    term.namespaces.iter().any(|name| name == namespace)
        || term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.is_empty()
                || snapshot.namespaces.named("", namespace).is_some_and(|ns| selector.matches(&ns.meta.labels))
        })
}

fn with_keys(selector: &LabelSelector, term: &PodTerm, holder: &Pod) -> LabelSelector {
    let mut selector = selector.clone();
    let keys = term.match_label_keys.iter().map(|key| (key, "In"));
    for (key, operator) in keys.chain(term.mismatch_label_keys.iter().map(|key| (key, "NotIn"))) {
        if let Some(value) = holder.meta.label(key) {
            let values = vec![value.to_owned()];
            selector.match_expressions.push(Expression { key: key.clone(), operator: operator.to_owned(), values });
        }
    }
    selector
}

/// Preferred terms of the pod towards others and of others towards it; required affinity of others counts 1.
pub(super) fn score(snapshot: &Snapshot, pod: &Pod, nodes: &[&Arc<Node>]) -> Vec<i64> {
    let mut places: HashMap<Place, i64> = HashMap::new();
    let mut add = |node: &Node, key: &str, weight: i64| {
        if let Some(place) = place(node, key) {
            *places.entry(place).or_default() += weight;
        }
    };
    let own = &pod.spec.affinity;
    if !own.pod_affinity.preferred.is_empty() || !own.pod_anti_affinity.preferred.is_empty() {
        for (other, node) in placed(snapshot, snapshot.pods.values()) {
            for (terms, sign) in [(&own.pod_affinity, 1), (&own.pod_anti_affinity, -1)] {
                let about = terms.preferred.iter().filter(|t| matches(snapshot, &t.pod_affinity_term, pod, other));
                about.for_each(|t| add(node, &t.pod_affinity_term.topology_key, sign * t.weight));
            }
        }
    }
    for (other, node) in placed(snapshot, with_terms(snapshot)) {
        let theirs = &other.spec.affinity;
        let required = theirs.pod_affinity.required.iter().filter(|t| matches(snapshot, t, other, pod));
        required.for_each(|t| add(node, &t.topology_key, 1));
        for (terms, sign) in [(&theirs.pod_affinity, 1), (&theirs.pod_anti_affinity, -1)] {
            let about = terms.preferred.iter().filter(|t| matches(snapshot, &t.pod_affinity_term, other, pod));
            about.for_each(|t| add(node, &t.pod_affinity_term.topology_key, sign * t.weight));
        }
    }
    if places.is_empty() {
        return vec![0; nodes.len()];
    }
    let of = |node: &Node| -> i64 {
        places.iter().filter(|((key, value), _)| node.meta.label(key) == Some(value)).map(|(_, weight)| weight).sum()
    };
    let raw: Vec<i64> = nodes.iter().map(|node| of(node)).collect();
    let (min, max) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.into_iter().map(|score| if max == min { 0 } else { 100 * (score - min) / (max - min) }).collect()
}
