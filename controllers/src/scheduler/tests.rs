//! Pods, nodes and where the one goes; or what it is told.

use serde_json::{Value, json};

use super::*;
use crate::fixture::*;

fn node(name: &str, extra: Value) -> Value {
    let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}}});
    merge(&mut node, &extra);
    node
}

fn pod(name: &str, extra: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}, "status": {"phase": "Pending"}});
    merge(&mut pod, &extra);
    pod
}

fn merge(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (name, value) in extra {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra.clone(),
    }
}

fn cluster(nodes: &[Value], pods: &[Value]) -> Cluster {
    let mut cluster = Cluster::new();
    for node in nodes {
        cluster.put("nodes", node.clone());
    }
    for pod in pods {
        cluster.put("pods", pod.clone());
    }
    cluster
}

fn run(cluster: &Cluster) -> Vec<String> {
    brief(&reconcile(&cluster.snapshot, &Key::new("ns", "p"), NOW))
}

/// The pod `p` with `extra` goes to `expected`.
#[track_caller]
fn goes(nodes: &[Value], pods: &[Value], extra: Value, expected: &str) {
    let mut cluster = cluster(nodes, pods);
    cluster.put("pods", pod("p", extra));
    let got = run(&cluster);
    assert_eq!(got[0], format!("bind p to {expected}"));
    assert_eq!(got[1], format!("event Normal p Scheduled: Successfully assigned ns/p to {expected}"));
}

/// The pod `p` with `extra` is told `expected`, less the part about preemption.
#[track_caller]
fn told(nodes: &[Value], pods: &[Value], extra: Value, expected: &str) {
    let mut cluster = cluster(nodes, pods);
    cluster.put("pods", pod("p", extra));
    let got = run(&cluster);
    let event = got.iter().find(|line| line.starts_with("event Warning p")).expect("an event");
    let text = event.strip_prefix("event Warning p FailedScheduling: ").expect("the reason");
    assert_eq!(text.split(" preemption:").next(), Some(expected), "{text}");
}

#[test]
fn no_nodes() {
    told(&[], &[], json!({}), "no nodes available to schedule pods");
}

#[test]
fn every_filter_has_its_words() {
    let cordoned = node("a", json!({"spec": {"unschedulable": true}}));
    told(&[cordoned], &[], json!({}), "0/1 nodes are available: 1 node(s) were unschedulable.");
    let tainted = node("a", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
    told(&[tainted.clone()], &[], json!({}), "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.");
    goes(&[tainted], &[], json!({"spec": {"tolerations": [{"key": "k", "operator": "Exists"}]}}), "a");
    let text = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    told(&[node("a", json!({}))], &[], json!({"spec": {"nodeSelector": {"disk": "ssd"}}}), text);
    let big =
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "3", "memory": "9Gi"}}}]}});
    told(&[node("a", json!({}))], &[], big, "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.");
    told(
        &[node("a", json!({"status": {"allocatable": {"pods": "0"}}}))],
        &[],
        json!({}),
        "0/1 nodes are available: 1 Too many pods.",
    );
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let mut there = pod("q", port.clone());
    there["spec"]["nodeName"] = "a".into();
    let text = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    told(&[node("a", json!({}))], &[there], port, text);
}

#[test]
fn reasons_are_counted_and_sorted_and_preemption_explained() {
    let nodes = [
        node("a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})),
        node("b", json!({})),
        node("c", json!({})),
    ];
    let full = |name: &str, node: &str| {
        pod(
            name,
            json!({"spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}}),
        )
    };
    let mut cluster = cluster(&nodes, &[full("x", "b"), full("y", "c")]);
    cluster.put("pods", pod("p", json!({})));
    let got = run(&cluster);
    let text = "0/3 nodes are available: 1 node(s) had untolerated taint {k: }, 2 Insufficient cpu. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.";
    assert!(got[0].contains(r#""reason":"Unschedulable""#) && got[0].contains(text), "{got:?}");
    assert_eq!(got[1], format!("event Warning p FailedScheduling: {text}"));
    assert_eq!(got[2], "again in 300s");
}

#[test]
fn the_emptier_node() {
    let busy = pod("q", json!({"spec": {"nodeName": "a"}}));
    goes(&[node("a", json!({})), node("b", json!({}))], &[busy], json!({}), "b");
}

#[test]
fn replicas_spread_over_nodes() {
    // Node a is larger, so it would win by room; the owner's pods that it has already weigh more.
    let nodes = [node("a", json!({"status": {"allocatable": {"cpu": "64", "memory": "256Gi"}}})), node("b", json!({}))];
    let owned = json!({"metadata": {"ownerReferences": owner("ReplicaSet", "rs")}});
    let mut there = pod("q", owned.clone());
    there["spec"]["nodeName"] = "a".into();
    goes(&nodes, &[there], owned, "b");
}

#[test]
fn preferred_node_affinity_and_soft_taints() {
    let nodes = [node("a", json!({})), node("b", json!({"metadata": {"labels": {"disk": "ssd"}}}))];
    let term = json!({"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}});
    let wish =
        json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}});
    goes(&nodes, &[], wish, "b");
    let nodes =
        [node("a", json!({})), node("b", json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}}))];
    goes(&nodes, &[], json!({}), "a");
}

#[test]
fn hard_topology_spread() {
    let zone = |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let nodes = [zone("a", "1"), zone("b", "2")];
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}});
    let spread = json!({"spec": {"topologySpreadConstraints": [constraint]}});
    let there = pod("q", json!({"spec": {"nodeName": "a"}}));
    goes(&nodes, &[there], spread.clone(), "b");
    let cordoned = node("b", json!({"metadata": {"labels": {"zone": "2"}}, "spec": {"unschedulable": true}}));
    let there = pod("q", json!({"spec": {"nodeName": "a"}}));
    told(
        &[zone("a", "1"), cordoned, node("c", json!({}))],
        &[there],
        spread,
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable.",
    );
}

fn term(app: &str) -> Value {
    json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}])
}

#[test]
fn pod_affinity() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let beside = |app: &str| json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app)}}}});
    let there = pod("q", json!({"spec": {"nodeName": "a"}, "metadata": {"labels": {"app": "db"}}}));
    goes(&nodes, &[there], beside("db"), "a");
    told(&nodes, &[], beside("db"), "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.");
    goes(&nodes[..1], &[], beside("a"), "a"); // The first of its own kind.
}

#[test]
fn pod_anti_affinity_both_ways() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let away = |app: &str| json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term(app)}}});
    let plain = pod("q", json!({"spec": {"nodeName": "a"}}));
    goes(&nodes, &[plain.clone()], json!({"spec": away("a")}), "b");
    told(
        &nodes[..1],
        &[plain],
        json!({"spec": away("a")}),
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
    );
    let mut shy = pod("q", json!({"spec": away("a")}));
    shy["spec"]["nodeName"] = "a".into();
    let text = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    told(&nodes[..1], &[shy], json!({}), text);
}

#[test]
fn the_lowest_make_room() {
    let nodes = [node("a", json!({}))];
    let low = |name: &str, priority: i64| pod(name, json!({"spec": {"nodeName": "a", "priority": priority}}));
    let mut cluster = cluster(&nodes, &[low("x", 1), low("y", 5)]);
    cluster.put("pods", pod("p", json!({"spec": {"priority": 10}})));
    let got = run(&cluster);
    assert_eq!(got[1], "delete pods x");
    assert_eq!(got[2], "event Normal x Preempted: Preempted by pod uid-p on node a");
    assert!(got[3].contains(r#""nominatedNodeName":"a""#));
    assert!(!got.iter().any(|line| line == "delete pods y"), "one is enough");
}

#[test]
fn pods_that_are_not_ours_to_place() {
    for extra in [
        json!({"spec": {"schedulerName": "other"}}),
        json!({"spec": {"schedulingGates": [{"name": "g"}]}}),
        json!({"spec": {"nodeName": "a"}}),
        json!({"metadata": {"deletionTimestamp": ago(1)}}),
    ] {
        let mut cluster = cluster(&[node("a", json!({}))], &[]);
        cluster.put("pods", pod("p", extra));
        assert_eq!(run(&cluster), Vec::<String>::new());
    }
}

#[test]
fn what_wakes_waiting_pods() {
    let mut cluster = cluster(&[node("a", json!({}))], &[pod("q", json!({"spec": {"nodeName": "a"}}))]);
    let p = || vec![Key::new("ns", "p")];
    let change = cluster.put("pods", pod("p", json!({}))).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), p());
    let change = cluster.put("pods", pod("p", json!({"status": {"reason": "x"}}))).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), [], "its own status");
    let change = cluster.put("nodes", node("a", json!({"status": {"images": []}}))).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), [], "a heartbeat");
    let change = cluster.put("nodes", node("a", json!({"status": {"allocatable": {"cpu": "4"}}}))).unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), p());
    let change = cluster.remove("pods", "ns", "q").unwrap();
    assert_eq!(keys(&cluster.snapshot, &change), p());
}
