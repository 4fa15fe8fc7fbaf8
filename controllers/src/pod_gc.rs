//! Deletes pods that nobody else would: of nodes that are gone, of nodes out of service, unscheduled ones that are being
//! deleted, and terminated ones beyond the threshold. Upstream: pkg/controller/podgc.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    disruption::with_disruption,
    resource,
    snapshot::Snapshot,
    view::{Object, Pod},
};

/// A node that disappears may come back at once (it is registered anew): so long are its pods left alone.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector",
    watches: &[resource::PODS, resource::NODES],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

/// The key under which terminated pods are counted.
fn count() -> Key {
    Key::new("", "")
}

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (old, Some(Object::Pod(pod))) => {
            let mut keys = Vec::new();
            if old.is_none() || pod.meta.deleting() {
                keys.push(change.key.clone());
            }
            let before = matches!(old, Some(Object::Pod(old)) if old.terminated());
            if pod.terminated() && !before && snapshot.indexes.terminated.len() > snapshot.settings.terminated_pods {
                keys.push(count());
            }
            keys
        }
        (_, Some(Object::Node(node))) if !out_of_service(node) => Vec::new(),
        (Some(Object::Node(_)), _) | (_, Some(Object::Node(_))) => {
            snapshot.pods_on(&change.key.name).map(|pod| pod.meta.key()).collect()
        }
        _ => Vec::new(),
    }
}

fn out_of_service(node: &crate::view::Node) -> bool {
    node.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    if *key == count() {
        return terminated(snapshot);
    }
    let Some(pod) = snapshot.pods.get(key) else { return Vec::new() };
    if pod.spec.node_name.is_empty() {
        return if pod.meta.deleting() { vec![Action::delete_now(resource::PODS, &pod.meta)] } else { Vec::new() };
    }
    match snapshot.nodes.named("", &pod.spec.node_name) {
        Some(node) => {
            let lost = out_of_service(node) && node.ready_status() != Some("True") && pod.meta.deleting();
            if lost { force(pod, "PodGC: node is out of service", now) } else { Vec::new() }
        }
        None => {
            let age = now.as_second() - pod.meta.created().as_second();
            let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
            let absent = snapshot.absence(&pod.spec.node_name).min(age);
            if absent < QUARANTINE {
                return vec![Action::RequeueAfter(QUARANTINE - absent + Duration::from_millis(100))];
            }
            force(pod, "PodGC: node no longer exists", now)
        }
    }
}

/// Its containers are gone with the node: it is marked as failed, and taken away without asking anybody.
fn force(pod: &Pod, message: &str, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pod.terminated() {
        let conditions = with_disruption(pod, "DeletionByPodGC", message, now);
        let patch = json!({ "status": { "phase": "Failed", "conditions": conditions } });
        actions.push(Action::patch(resource::PODS, &pod.meta, Some("status"), patch));
    }
    actions.push(Action::delete_now(resource::PODS, &pod.meta));
    actions
}

/// The oldest ones beyond the threshold.
fn terminated(snapshot: &Snapshot) -> Vec<Action> {
    let all = snapshot.indexes.terminated.iter().filter_map(|key| snapshot.pods.get(key));
    let mut pods: Vec<_> = all.filter(|pod| !pod.meta.deleting()).collect();
    let excess = pods.len().saturating_sub(snapshot.settings.terminated_pods);
    pods.sort_by_key(|pod| (pod.meta.created(), pod.meta.key()));
    pods.truncate(excess);
    pods.into_iter().map(|pod| Action::delete_now(resource::PODS, &pod.meta)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, settings::Settings};

    #[track_caller]
    fn check(cluster: &Cluster, pod: &str, expected: &[&str]) {
        let got = brief(&reconcile(&cluster.snapshot, &Key::new("ns", pod), NOW));
        assert_eq!(got.len(), expected.len(), "{got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.starts_with(expected), "{got}");
        }
    }

    #[test]
    fn pods_of_a_node_that_is_gone() {
        let mut cluster = Cluster::new();
        cluster.put("nodes", json!({"metadata": {"name": "n"}}));
        cluster
            .put("pods", json!({"metadata": {"name": "p", "creationTimestamp": ago(500)}, "spec": {"nodeName": "n"}}));
        check(&cluster, "p", &[]);
        let change = cluster.remove("nodes", "", "n").unwrap();
        assert_eq!(keys(&cluster.snapshot, &change), [Key::new("ns", "p")]);
        check(&cluster, "p", &["again in 40s"]);
        cluster.snapshot.tick(Duration::from_secs(41));
        check(&cluster, "p", &[r#"patch pods p/status {"status":{"phase":"Failed","#, "delete pods p grace=0"]);
    }

    #[test]
    fn an_unscheduled_pod_that_is_being_deleted() {
        let mut cluster = Cluster::new();
        cluster.put("pods", json!({"metadata": {"name": "p", "deletionTimestamp": ago(1)}}));
        check(&cluster, "p", &["delete pods p grace=0"]);
    }

    #[test]
    fn the_oldest_terminated_pods_beyond_the_threshold() {
        let mut cluster = Cluster::with(Settings { terminated_pods: 1, ..Settings::default() });
        for (name, age) in [("new", 1), ("old", 100)] {
            cluster.put("pods", json!({"metadata": {"name": name, "creationTimestamp": ago(age)}, "spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}}));
        }
        assert_eq!(brief(&reconcile(&cluster.snapshot, &count(), NOW)), ["delete pods old grace=0"]);
    }
}
