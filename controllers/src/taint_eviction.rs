//! Deletes pods from nodes with NoExecute taints that they do not tolerate, or no longer do.
//! Upstream: pkg/controller/tainteviction.
//!
//! A toleration's seconds count from when the taint was added, but never from before this process began to watch: after an
//! outage of the server a node gets the time to say that it is well.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    action::{Action, normal},
    controller::{Change, Concurrency, Controller, Key},
    disruption::with_disruption,
    resource,
    snapshot::Snapshot,
    view::{Object, Pod, Taint},
};

const NAME: &str = "taint-eviction-controller";

pub(crate) const CONTROLLER: Controller = Controller {
    name: NAME,
    watches: &[resource::NODES, resource::PODS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (old, Some(Object::Node(node))) => {
            let before = if let Some(Object::Node(old)) = old { old.spec.taints.as_slice() } else { &[] };
            if before == node.spec.taints.as_slice() {
                return Vec::new();
            }
            snapshot.pods_on(&node.meta.name).map(|pod| pod.meta.key()).collect()
        }
        (old, Some(Object::Pod(pod))) => {
            let same = matches!(old, Some(Object::Pod(old))
                if old.spec.node_name == pod.spec.node_name && old.spec.tolerations == pod.spec.tolerations);
            if same || pod.spec.node_name.is_empty() { Vec::new() } else { vec![change.key.clone()] }
        }
        _ => Vec::new(),
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(pod) = snapshot.pods.get(key) else { return Vec::new() };
    if pod.meta.deleting() || pod.terminated() {
        return Vec::new();
    }
    let Some(node) = snapshot.nodes.named("", &pod.spec.node_name) else { return Vec::new() };
    let began = now - SignedDuration::try_from(snapshot.watched).unwrap_or(SignedDuration::ZERO);
    let taints = node.spec.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let Some(deadline) = taints.filter_map(|taint| deadline(pod, taint, began, now)).min() else { return Vec::new() };
    let left = deadline.duration_since(now);
    if left > SignedDuration::ZERO {
        let left = Duration::try_from(left).unwrap_or_default();
        return vec![Action::RequeueAfter(left + Duration::from_millis(10))];
    }
    evict(pod, now)
}

/// When the pod must have gone because of a taint; none if it may stay.
fn deadline(pod: &Pod, taint: &Taint, began: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let mut tolerations = pod.spec.tolerations.iter().filter(|t| t.tolerates(taint)).peekable();
    if tolerations.peek().is_none() {
        return Some(now);
    }
    let seconds = tolerations.filter_map(|t| t.toleration_seconds).min()?.max(0);
    let since = taint.time_added.unwrap_or(now).max(began);
    since.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn evict(pod: &Pod, now: Timestamp) -> Vec<Action> {
    let message = format!("Marking for deletion Pod {}/{}", pod.meta.namespace, pod.meta.name);
    let reason = "Taint manager: deleting due to NoExecute taint";
    let conditions = with_disruption(pod, "DeletionByTaintManager", reason, now);
    let patch = json!({ "status": { "conditions": conditions } });
    vec![
        Action::patch_exact(resource::PODS, &pod.meta, Some("status"), patch),
        Action::Event(normal(NAME, pod.meta.involved("v1", "Pod"), "TaintManagerEviction", message)),
        Action::delete(resource::PODS, &pod.meta),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fixture::*;

    #[track_caller]
    fn check(tolerations: Value, watched: u64, expected: &str) {
        let mut cluster = Cluster::new();
        cluster.snapshot.watched = Duration::from_secs(watched);
        let taint = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": ago(60)});
        cluster.put("nodes", json!({"metadata": {"name": "n"}, "spec": {"taints": [taint]}}));
        cluster.put("pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "tolerations": tolerations}}));
        let got = brief(&reconcile(&cluster.snapshot, &Key::new("ns", "p"), NOW));
        assert_eq!(got.last().map_or("stays", String::as_str), expected);
    }

    #[test]
    fn evictions() {
        let tolerates = |seconds: Value| json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        check(json!([]), 3600, "delete pods p");
        check(tolerates(300.into()), 3600, "again in 240s");
        check(tolerates(10.into()), 3600, "delete pods p");
        check(tolerates(10.into()), 5, "again in 5s"); // We began to watch five seconds ago.
        check(json!([{"operator": "Exists"}]), 3600, "stays");
    }
}
