//! Sizes in, sizes out: the arithmetic of rollouts as upstream's tables have it.

use serde_json::{Value, json};

use super::*;
use crate::{fixture::*, template};

fn deployment(replicas: i64, surge: Value, unavailable: Value) -> Value {
    json!({"metadata": {"name": "d", "generation": 1, "annotations": {REVISION: "2"}}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "d"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 1,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        "template": pods("new")}})
}

fn pods(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A set of the deployment `d` (size `desired`, with surge `max`).
fn set(name: &str, image: &str, replicas: i64, available: i64, desired: (i64, i64)) -> Value {
    let age = if image == "new" { 10 } else { 100 };
    let revision = if image == "new" { "2" } else { "1" };
    json!({"metadata": {"name": name, "generation": 1, "creationTimestamp": ago(age), "labels": {"app": "d"}, "ownerReferences": owner("Deployment", "d"),
            "annotations": {DESIRED: desired.0.to_string(), MAX: desired.1.to_string(), REVISION: revision}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "d"}}, "template": pods(image)},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available, "observedGeneration": 1}})
}

fn cluster(deployment: Value, sets: &[Value]) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put(resource::DEPLOYMENTS, deployment);
    for set in sets {
        cluster.put(resource::REPLICA_SETS, set.clone());
    }
    cluster
}

fn run(cluster: &Cluster) -> Vec<String> {
    brief(&reconcile(&cluster.snapshot, &Key::new("ns", "d"), NOW))
}

/// The events about scaling, without their first word.
fn scaled(cluster: &Cluster) -> Vec<String> {
    run(cluster)
        .iter()
        .filter_map(|l| l.strip_prefix("event Normal d ScalingReplicaSet: Scaled ").map(ToOwned::to_owned))
        .collect()
}

/// One step of a rolling update of a deployment of ten from `old` to `new` (size, available).
#[track_caller]
fn step(surge: Value, unavailable: Value, new: (i64, i64), old: (i64, i64), expected: &[&str]) {
    let d = deployment(10, surge, unavailable);
    let max = match &d["spec"]["strategy"]["rollingUpdate"]["maxSurge"] {
        Value::String(_) => 13, // 25 %
        n => 10 + n.as_i64().unwrap(),
    };
    let cluster = cluster(d, &[set("n", "new", new.0, new.1, (10, max)), set("o", "old", old.0, old.1, (10, max))]);
    assert_eq!(scaled(&cluster), expected);
}

#[test]
fn rolling_steps() {
    let quarter = || json!("25%");
    step(quarter(), quarter(), (0, 0), (10, 10), &["up replica set n from 0 to 3"]);
    step(quarter(), quarter(), (3, 0), (10, 10), &["down replica set o from 10 to 8"]);
    step(quarter(), quarter(), (5, 5), (8, 8), &["down replica set o from 8 to 3"]);
    step(json!(0), json!(1), (0, 0), (10, 10), &["down replica set o from 10 to 9"]);
    step(json!(0), json!(1), (0, 0), (9, 9), &["up replica set n from 0 to 1"]);
    step(json!(0), json!(1), (1, 0), (9, 9), &[]);
    step(json!(0), json!(1), (1, 1), (9, 9), &["down replica set o from 9 to 8"]);
    step(json!(1), json!(0), (1, 0), (10, 10), &[]);
    step(json!(1), json!(0), (1, 1), (10, 10), &["down replica set o from 10 to 9"]);
    // What does not work goes first and needs no floor.
    step(json!(1), json!(0), (1, 0), (10, 4), &[]);
    step(json!(1), json!(5), (1, 1), (10, 6), &["down replica set o from 10 to 6", "down replica set o from 6 to 4"]);
    step(json!(0), json!(0), (0, 0), (10, 10), &["down replica set o from 10 to 9"]);
    step(quarter(), quarter(), (10, 10), (1, 1), &["down replica set o from 1 to 0"]);
}

#[test]
fn the_first_set() {
    let cluster = cluster(deployment(3, json!(1), json!(0)), &[]);
    let actions = reconcile(&cluster.snapshot, &Key::new("ns", "d"), NOW);
    let Action::Create { object, .. } = &actions[0] else { panic!("{actions:?}") };
    let hash = template::hash(&pods("new"), 0);
    assert_eq!(object["metadata"]["name"], format!("d-{hash}"));
    assert_eq!(object["spec"]["selector"]["matchLabels"], json!({"app": "d", "pod-template-hash": hash}));
    assert_eq!(object["spec"]["template"]["metadata"]["labels"]["pod-template-hash"], hash);
    assert_eq!(object["spec"]["replicas"], 3);
    assert_eq!(object["metadata"]["annotations"], json!({REVISION: "1", DESIRED: "3", MAX: "4"}));
    let lines = brief(&actions);
    assert_eq!(lines[2], format!("event Normal d ScalingReplicaSet: Scaled up replica set d-{hash} from 0 to 3"));
    assert!(lines.last().unwrap().starts_with("again in"), "{lines:?}");
    assert!(lines.iter().any(|l| l.contains(&format!("Created new replica set \\\"d-{hash}\\\""))));
}

#[test]
fn a_size_is_spread_in_proportion() {
    let sizes = |replicas: i64, before: i64, new: i64, old: i64| {
        let cluster = cluster(
            deployment(replicas, json!(0), json!(1)),
            &[set("n", "new", new, new, (before, before)), set("o", "old", old, old, (before, before))],
        );
        scaled(&cluster)
    };
    assert_eq!(sizes(20, 10, 5, 5), ["up replica set n from 5 to 10", "up replica set o from 5 to 10"]);
    assert_eq!(sizes(5, 10, 8, 2), ["down replica set n from 8 to 4", "down replica set o from 2 to 1"]);
    assert_eq!(sizes(0, 10, 8, 2), ["down replica set n from 8 to 0", "down replica set o from 2 to 0"]);
}

#[test]
fn a_paused_deployment_only_scales() {
    let mut paused = deployment(10, json!(1), json!(0));
    paused["spec"]["paused"] = true.into();
    let cluster = cluster(paused, &[set("o", "old", 5, 5, (5, 6))]);
    assert_eq!(scaled(&cluster), ["up replica set o from 5 to 10"]);
    assert!(run(&cluster).iter().all(|line| !line.starts_with("create")));
    assert!(run(&cluster).iter().any(|line| line.contains("DeploymentPaused")));
}

fn status(progressing: &str, updated: i64) -> Value {
    json!({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 2,
        "conditions": [{"type": "Progressing", "status": "True", "reason": progressing, "lastUpdateTime": ago(updated), "lastTransitionTime": ago(900)}]})
}

#[test]
fn a_rollout_that_does_not_move_runs_into_its_deadline() {
    let mut d = deployment(3, json!(1), json!(0));
    d["status"] = status("ReplicaSetUpdated", 500);
    let sets = [set("n", "new", 3, 1, (3, 4))];
    assert!(run(&cluster(d.clone(), &sets)).contains(&"again in 101s".to_owned()));
    d["status"] = status("ReplicaSetUpdated", 601);
    let lines = run(&cluster(d.clone(), &sets));
    assert!(
        lines
            .iter()
            .any(|l| l.contains("ProgressDeadlineExceeded")
                && l.contains(r#"ReplicaSet \"n\" has timed out progressing."#)),
        "{lines:?}"
    );
    d["status"] = status("NewReplicaSetAvailable", 5000);
    assert!(!run(&cluster(d, &sets)).iter().any(|l| l.contains("ProgressDeadlineExceeded")));
}

#[test]
fn a_complete_rollout_says_so_and_forgets_old_sets() {
    let d = deployment(3, json!(1), json!(0));
    let mut sets = vec![set("n", "new", 3, 3, (3, 4))];
    for (name, revision) in [("o1", "1"), ("o0", "0")] {
        let mut old = set(name, name, 0, 0, (3, 4));
        old["metadata"]["annotations"][REVISION] = revision.into();
        sets.push(old);
    }
    let lines = run(&cluster(d, &sets));
    assert!(
        lines.iter().any(|l| l.contains("NewReplicaSetAvailable") && l.contains("MinimumReplicasAvailable")),
        "{lines:?}"
    );
    assert!(lines.contains(&"delete replicasets.apps o0".to_owned()), "{lines:?}");
    assert!(!lines.contains(&"delete replicasets.apps o1".to_owned()));
}

#[test]
fn an_undo_makes_the_old_set_the_newest_revision() {
    let mut d = deployment(3, json!(1), json!(0));
    d["spec"]["template"] = pods("old");
    let lines = run(&cluster(d, &[set("n", "new", 3, 3, (3, 4)), set("o", "old", 0, 0, (3, 4))]));
    assert!(
        lines[0].starts_with("patch replicasets.apps o")
            && lines[0].contains(r#""deployment.kubernetes.io/revision":"3""#),
        "{lines:?}"
    );
    assert!(lines[0].contains(r#""deployment.kubernetes.io/revision-history":"1""#));
    assert!(lines[1].starts_with("patch deployments.apps d") && lines[1].contains(r#""3""#));
}
