//! Nodes and pods in, pods to make and to delete out.

use serde_json::json;

use super::*;
use crate::fixture::*;

fn set(image: &str, rolling: Value) -> Value {
    json!({"metadata": {"name": "d", "generation": 1}, "spec": {
        "selector": {"matchLabels": {"app": "d"}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn cluster(nodes: &[&str], rolling: Value) -> Cluster {
    let mut cluster = Cluster::new();
    for node in nodes {
        cluster.put("nodes", json!({"metadata": {"name": node}}));
    }
    cluster.put(resource::DAEMON_SETS, set("v1", rolling));
    step(&mut cluster);
    cluster
}

/// One reconcile, carried out; pods run at once.
fn step(cluster: &mut Cluster) -> Vec<String> {
    let actions = reconcile(&cluster.snapshot, &Key::new("ns", "d"), NOW);
    for action in &actions {
        match action {
            Action::Create { resource, object, .. } => {
                let mut object = object.clone();
                if resource == resource::PODS {
                    let node = object["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].clone();
                    object["spec"]["nodeName"] = node;
                    object["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
                }
                cluster.put(resource, object);
            }
            Action::Delete { resource, name, .. } => {
                cluster.remove(resource, "ns", name);
            }
            _ => {}
        }
    }
    let short = |line: String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    brief(&actions).into_iter().filter(|l| l.starts_with("create") || l.starts_with("delete")).map(short).collect()
}

/// `node=image`, sorted.
fn running(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<String> = cluster
        .snapshot
        .pods
        .values()
        .map(|pod| format!("{}={}", pod.spec.node_name, pod.spec.containers[0].image))
        .collect();
    all.sort();
    all
}

#[test]
fn a_pod_on_every_node_that_it_fits() {
    let mut cluster = cluster(&["a", "b"], json!({}));
    cluster
        .put("nodes", json!({"metadata": {"name": "t"}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    cluster.put("nodes", json!({"metadata": {"name": "cordoned"}, "spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}}));
    step(&mut cluster);
    assert_eq!(running(&cluster), ["a=v1", "b=v1", "cordoned=v1"]);
    cluster.put("nodes", json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}));
    assert_eq!(step(&mut cluster), ["delete pods"]);
    assert_eq!(running(&cluster), ["b=v1", "cordoned=v1"]);
}

#[test]
fn the_revision_comes_before_the_pods() {
    let mut cluster = Cluster::new();
    cluster.put("nodes", json!({"metadata": {"name": "a"}}));
    cluster.put(resource::DAEMON_SETS, set("v1", json!({})));
    assert_eq!(step(&mut cluster), ["create controllerrevisions.apps"]);
    assert_eq!(step(&mut cluster), ["create pods"]);
}

#[test]
fn one_node_after_the_other() {
    let mut cluster = cluster(&["a", "b"], json!({"maxUnavailable": 1}));
    step(&mut cluster);
    cluster.put(resource::DAEMON_SETS, set("v2", json!({"maxUnavailable": 1})));
    assert_eq!(step(&mut cluster), ["create controllerrevisions.apps"]);
    assert_eq!(step(&mut cluster), ["delete pods"]);
    assert_eq!(step(&mut cluster), ["create pods"]);
    assert_eq!(step(&mut cluster), ["delete pods"]);
    assert_eq!(step(&mut cluster), ["create pods"]);
    assert_eq!(running(&cluster), ["a=v2", "b=v2"]);
    cluster.put(resource::DAEMON_SETS, set("v1", json!({"maxUnavailable": 1})));
    let undo = brief(&reconcile(&cluster.snapshot, &Key::new("ns", "d"), NOW));
    assert!(
        undo[0].starts_with("patch controllerrevisions.apps") && undo[0].ends_with(r#"{"revision":3}"#),
        "{undo:?}"
    );
}

#[test]
fn a_surge_replaces_without_a_gap() {
    let mut cluster = cluster(&["a"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    step(&mut cluster);
    cluster.put(resource::DAEMON_SETS, set("v2", json!({"maxSurge": 1, "maxUnavailable": 0})));
    step(&mut cluster);
    assert_eq!(step(&mut cluster), ["create pods"]);
    assert_eq!(running(&cluster), ["a=v1", "a=v2"]);
    assert_eq!(step(&mut cluster), ["delete pods"]);
    assert_eq!(running(&cluster), ["a=v2"]);
}

#[test]
fn failed_pods_are_replaced() {
    let mut cluster = cluster(&["a"], json!({}));
    step(&mut cluster);
    let pod = cluster.snapshot.pods.values().next().unwrap().meta.name.clone();
    cluster.put("pods", json!({"metadata": {"name": pod, "uid": format!("uid-{pod}"), "labels": {"app": "d"}, "ownerReferences": owner("DaemonSet", "d")},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "v1"}]}, "status": {"phase": "Failed"}}));
    assert_eq!(step(&mut cluster), ["delete pods"]);
    assert_eq!(step(&mut cluster), ["create pods"]);
}
