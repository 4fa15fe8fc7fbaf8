//! Nodes that are not heard of become `Unknown`, their pods not ready, and conditions become taints.
//! Upstream: pkg/controller/nodelifecycle.
//!
//! Silence is counted in time that this process watched (see `snapshot::heartbeat`), so an outage of the server marks no
//! node. If no node at all is ready, the fault is more likely ours or the network's: then nobody is evicted. If most are not,
//! nobody more is: what is left could not take their pods (upstream's partial disruption in a cluster of up to 50 nodes).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    action::{Action, normal, warning},
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::Snapshot,
    view::{Condition, Node, Object, Pod, Taint, condition, condition_is_true, rfc3339},
};

const COMPONENT: &str = "node-controller";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// What the kubelet would report; all of it becomes unknown with the kubelet.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep new pods away while they are true.
const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// --large-cluster-size-threshold.
const SMALL: usize = 50;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-lifecycle-controller",
    watches: &[resource::NODES, resource::PODS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (Some(Object::Node(old)), Some(Object::Node(new))) if old.ready_status() == new.ready_status() => {
            vec![change.key.clone()]
        }
        // Whether anybody may be evicted depends on all nodes.
        (_, Some(Object::Node(_))) | (Some(Object::Node(_)), _) => snapshot.nodes.keys().cloned().collect(),
        (_, Some(Object::Pod(pod))) if pod.ready() && !pod.spec.node_name.is_empty() => {
            let key = Key::new("", pod.spec.node_name.as_str());
            let lost = snapshot.nodes.get(&key).is_some_and(|node| node.ready_status() == Some("Unknown"));
            if lost { vec![key] } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(node) = snapshot.nodes.get(key) else { return Vec::new() };
    let settings = &snapshot.settings;
    let grace = if node.ready_status().is_some() { settings.node_grace } else { settings.node_startup_grace };
    let silence = snapshot.silence(&key.name);
    if silence >= grace && node.ready_status() != Some("Unknown") {
        // The change of the condition brings this key back, for the taints.
        return lost(snapshot, node, now);
    }
    let mut actions = Vec::new();
    if node.ready_status() == Some("Unknown") {
        actions.extend(snapshot.pods_on(&key.name).filter(|pod| pod.ready()).flat_map(|pod| not_ready(pod, now)));
    } else {
        actions.push(Action::RequeueAfter(grace.saturating_sub(silence) + Duration::from_millis(100)));
    }
    actions.extend(taints(snapshot, node, now));
    actions
}

/// The node was not heard of: everything that it reported is unknown.
fn lost(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Vec<Action> {
    let mut conditions = node.status.conditions.clone();
    for type_ in REPORTED {
        let old = condition(&conditions, type_).cloned();
        let (reason, message) = match old {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        let new = Condition {
            type_: type_.to_owned(),
            status: "Unknown".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_heartbeat_time: old
                .and_then(|old| old.last_heartbeat_time)
                .or_else(|| node.meta.creation_timestamp.map(rfc3339)),
            last_transition_time: Some(rfc3339(now)),
            ..Condition::default()
        };
        conditions.retain(|c| c.type_ != type_);
        conditions.push(new);
    }
    let patch = json!({ "status": { "conditions": conditions } });
    let mut actions = vec![Action::patch_exact(resource::NODES, &node.meta, Some("status"), patch)];
    let message = format!("Node {} status is now: NodeNotReady", node.meta.name);
    actions.push(Action::Event(normal(COMPONENT, node.meta.involved("v1", "Node"), "NodeNotReady", message)));
    actions.extend(snapshot.pods_on(&node.meta.name).filter(|pod| pod.ready()).flat_map(|pod| not_ready(pod, now)));
    actions
}

fn not_ready(pod: &Pod, now: Timestamp) -> [Action; 2] {
    let mut conditions = pod.status.conditions.clone();
    for condition in conditions.iter_mut().filter(|c| c.type_ == "Ready") {
        "False".clone_into(&mut condition.status);
        condition.last_transition_time = Some(rfc3339(now));
    }
    let patch = json!({ "status": { "conditions": conditions } });
    let event = warning(COMPONENT, pod.meta.involved("v1", "Pod"), "NodeNotReady", "Node is not ready".to_owned());
    [Action::patch_exact(resource::PODS, &pod.meta, Some("status"), patch), Action::Event(event)]
}

/// The taints that this controller keeps, as conditions want them; all others stay.
fn taints(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Option<Action> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let health = match node.ready_status() {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        // Also a node that has not reported yet.
        _ => Some(NOT_READY),
    };
    if let Some(key) = health {
        wanted.push((key, "NoSchedule"));
        let has_it = node.spec.taints.iter().any(|taint| taint.key == key && taint.effect == "NoExecute");
        let evicts = match disruption(snapshot) {
            Disruption::None => true,
            Disruption::Partial => has_it,
            Disruption::Full => false,
        };
        if evicts && node.ready_status().is_some() {
            wanted.push((key, "NoExecute"));
        }
    }
    if node.spec.unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let pressed = PRESSURE.iter().filter(|(type_, _)| condition_is_true(&node.status.conditions, type_));
    wanted.extend(pressed.map(|(_, key)| (*key, "NoSchedule")));

    let is = |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let mut taints: Vec<Taint> = node
        .spec
        .taints
        .iter()
        .filter(|taint| !ours(taint) || wanted.iter().any(|want| is(taint, *want)))
        .cloned()
        .collect();
    let missing: Vec<_> = wanted.into_iter().filter(|want| !taints.iter().any(|taint| is(taint, *want))).collect();
    if missing.is_empty() && taints.len() == node.spec.taints.len() {
        return None;
    }
    taints.extend(missing.into_iter().map(|(key, effect)| Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        time_added: Some(now),
        ..Taint::default()
    }));
    let list: Vec<Value> = taints.iter().map(written).collect();
    Some(Action::patch_exact(resource::NODES, &node.meta, None, json!({ "spec": { "taints": list } })))
}

/// How much of the cluster is not ready.
enum Disruption {
    None,
    Partial,
    Full,
}

fn disruption(snapshot: &Snapshot) -> Disruption {
    let (mut all, mut not_ready) = (0, 0);
    for node in snapshot.nodes.values() {
        all += 1;
        not_ready += usize::from(node.ready_status() != Some("True"));
    }
    match not_ready {
        _ if not_ready == all => Disruption::Full,
        // --unhealthy-zone-threshold=0.55, and never for two nodes.
        3.. if all <= SMALL && not_ready * 100 >= all * 55 => Disruption::Partial,
        _ => Disruption::None,
    }
}

fn ours(taint: &Taint) -> bool {
    match taint.effect.as_str() {
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        "NoSchedule" => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
                || PRESSURE.iter().any(|(_, key)| *key == taint.key)
        }
        _ => false,
    }
}

fn written(taint: &Taint) -> Value {
    let mut value = json!({ "key": taint.key, "effect": taint.effect });
    if !taint.value.is_empty() {
        value["value"] = taint.value.as_str().into();
    }
    if let Some(time) = taint.time_added {
        value["timeAdded"] = rfc3339(time).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    fn node(name: &str, ready: &str, taints: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": ago(5)}]}})
    }

    fn run(cluster: &Cluster, name: &str) -> Vec<String> {
        brief(&reconcile(&cluster.snapshot, &Key::new("", name), NOW))
    }

    #[test]
    fn a_healthy_node_is_looked_at_again_when_its_grace_ends() {
        let mut cluster = Cluster::new();
        cluster.put("nodes", node("a", "True", json!([])));
        cluster.snapshot.tick(Duration::from_secs(30));
        assert_eq!(run(&cluster, "a"), ["again in 20s"]);
        cluster.put("leases.coordination.k8s.io", json!({"metadata": {"name": "a", "namespace": "kube-node-lease"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}));
        assert_eq!(run(&cluster, "a"), ["again in 50s"], "a renewed lease is a sign of life");
    }

    #[test]
    fn a_silent_node_becomes_unknown_and_its_pods_not_ready() {
        let mut cluster = Cluster::new();
        cluster.put("nodes", node("a", "True", json!([])));
        cluster.put("pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        cluster.snapshot.tick(Duration::from_secs(51));
        let got = run(&cluster, "a");
        assert!(got[0].contains("Kubelet stopped posting node status.") && got[0].contains(r#""status":"Unknown""#));
        assert_eq!(got[1], "event Normal a NodeNotReady: Node a status is now: NodeNotReady");
        assert!(got[2].starts_with("patch pods p/status"));
        assert_eq!(got[3], "event Warning p NodeNotReady: Node is not ready");
    }

    #[test]
    fn unknown_nodes_are_tainted_unless_all_are() {
        let mut cluster = Cluster::new();
        cluster.put("nodes", node("a", "Unknown", json!([])));
        assert!(!run(&cluster, "a")[0].contains("NoExecute"), "nobody is ready");
        cluster.put("nodes", node("b", "True", json!([])));
        let got = run(&cluster, "a");
        assert!(
            got[0].contains(
                r#"{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-01-01T00:00:00Z"}"#
            ),
            "{got:?}"
        );
    }

    #[test]
    fn when_most_are_lost_nobody_more_is_evicted() {
        let mut cluster = Cluster::new();
        for (name, ready) in [("a", "Unknown"), ("b", "Unknown"), ("d", "True"), ("e", "True")] {
            cluster.put("nodes", node(name, ready, json!([])));
        }
        assert!(run(&cluster, "a")[0].contains("NoExecute"));
        cluster.put("nodes", node("c", "Unknown", json!([])));
        assert!(!run(&cluster, "a")[0].contains("NoExecute"), "three of five");
        let taints = json!([{"key": UNREACHABLE, "effect": "NoExecute"}, {"key": UNREACHABLE, "effect": "NoSchedule"}]);
        cluster.put("nodes", node("b", "Unknown", taints));
        assert_eq!(run(&cluster, "b"), [""; 0], "what is there stays");
    }

    #[test]
    fn a_node_that_is_ready_loses_our_taints_and_keeps_others() {
        let mut cluster = Cluster::new();
        let taints =
            json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": "mine", "value": "v", "effect": "NoSchedule"}]);
        cluster.put("nodes", node("a", "True", taints));
        assert_eq!(
            run(&cluster, "a")[1],
            r#"patch nodes a {"spec":{"taints":[{"key":"mine","effect":"NoSchedule","value":"v"}]}}"#
        );
    }

    #[test]
    fn a_cordoned_node_is_tainted() {
        let mut cluster = Cluster::new();
        let mut cordoned = node("a", "True", json!([]));
        cordoned["spec"]["unschedulable"] = true.into();
        cluster.put("nodes", cordoned);
        assert!(run(&cluster, "a")[1].contains(UNSCHEDULABLE));
    }
}
