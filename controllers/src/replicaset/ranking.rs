//! Which pods go first when a set shrinks (upstream's ActivePodsWithRanks).

use std::{
    cmp::{Ordering, Reverse},
    collections::HashMap,
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    resource,
    snapshot::Snapshot,
    view::{Pod, ReplicaSet},
};

/// The annotation by which users rank pods.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods that are missed least.
pub(super) fn first_to_go<'a>(
    snapshot: &Snapshot,
    set: &ReplicaSet,
    pods: &[&'a Arc<Pod>],
    count: usize,
) -> Vec<&'a Arc<Pod>> {
    let mut pods = pods.to_vec();
    if count < pods.len() {
        let crowd = crowd(snapshot, set);
        pods.sort_by(|a, b| compare(a, b, &crowd));
    }
    pods.truncate(count);
    pods
}

/// How many active pods of the sets with the same owner each node runs: of two on one node, one goes first.
fn crowd(snapshot: &Snapshot, set: &ReplicaSet) -> HashMap<String, usize> {
    let mut crowd = HashMap::new();
    let siblings = match set.meta.controller() {
        Some(owner) => snapshot.owned(&owner.uid, resource::REPLICA_SETS, &snapshot.replica_sets),
        None => Vec::new(),
    };
    let mut uids: Vec<&str> = siblings.iter().map(|set| set.meta.uid.as_str()).collect();
    if uids.is_empty() {
        uids.push(&set.meta.uid);
    }
    for uid in uids {
        for pod in snapshot.owned(uid, resource::PODS, &snapshot.pods) {
            if pod.active() && !pod.spec.node_name.is_empty() {
                *crowd.entry(pod.spec.node_name.clone()).or_default() += 1;
            }
        }
    }
    crowd
}

fn compare(a: &Pod, b: &Pod, crowd: &HashMap<String, usize>) -> Ordering {
    let key = |pod: &Pod| {
        let phase = match pod.status.phase.as_str() {
            "" | "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i64 = pod.meta.annotation(COST).and_then(|text| text.parse().ok()).unwrap_or(0);
        let rank = crowd.get(&pod.spec.node_name).copied().unwrap_or(0);
        let restarts = pod.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or(0);
        (
            !pod.spec.node_name.is_empty(),
            phase,
            pod.ready(),
            cost,
            Reverse(rank),
            Reverse(pod.ready_since().unwrap_or(Timestamp::MIN)),
            Reverse(restarts),
            Reverse(pod.meta.created()),
        )
    };
    key(a).cmp(&key(b)).then_with(|| a.meta.name.cmp(&b.meta.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(extra: &Value) -> Pod {
        let mut base = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
        merge(&mut base, extra);
        serde_json::from_value::<Pod>(base).unwrap()
    }

    fn merge(base: &mut Value, extra: &Value) {
        match (base, extra) {
            (Value::Object(base), Value::Object(extra)) => {
                for (k, v) in extra {
                    merge(base.entry(k).or_insert(Value::Null), v);
                }
            }
            (base, extra) => *base = extra.clone(),
        }
    }

    #[track_caller]
    fn check(goes: Value, stays: Value) {
        let crowd = HashMap::from([("n".to_owned(), 1), ("full".to_owned(), 2)]);
        assert_eq!(compare(&pod(&goes), &pod(&stays), &crowd), Ordering::Less);
    }

    #[test]
    fn who_goes_first() {
        check(json!({"spec": {"nodeName": ""}}), json!({}));
        check(json!({"status": {"phase": "Pending"}}), json!({}));
        check(json!({"status": {"conditions": []}}), json!({}));
        check(json!({"metadata": {"annotations": {COST: "-1"}}}), json!({}));
        check(json!({"spec": {"nodeName": "full"}}), json!({}));
        check(json!({"status": {"containerStatuses": [{"restartCount": 3}]}}), json!({}));
        check(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:05Z"}}), json!({}));
        // Among ready ones the younger, whatever else is equal.
        check(
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}]}}),
            json!({}),
        );
    }
}
