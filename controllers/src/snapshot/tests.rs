//! What is news and what is not, and that indexes follow objects to the end.

use serde_json::{Value, json};

use super::*;
use crate::fixture::Cluster;

fn object(name: &str, uid: &str, revision: u64, extra: Value) -> Vec<u8> {
    let mut object =
        json!({"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": revision.to_string()}});
    for (field, value) in extra.as_object().expect("an object") {
        match field.as_str() {
            "labels" | "ownerReferences" => object["metadata"][field] = value.clone(),
            _ => object[field] = value.clone(),
        }
    }
    object.to_string().into_bytes()
}

#[test]
fn what_is_not_news() {
    let mut snapshot = Snapshot::new(Settings::default());
    let mut apply = |uid: &str, revision: u64, deleted: bool| {
        snapshot.apply("pods", &object("p", uid, revision, json!({})), revision, deleted).expect("readable").is_some()
    };
    assert!(!apply("a", 3, true), "gone before it was seen");
    assert!(apply("a", 4, false));
    assert!(!apply("a", 4, false), "seen");
    assert!(!apply("a", 3, false), "older");
    assert!(!apply("b", 5, true), "another one of that name");
    assert!(apply("a", 6, true));
    assert!(apply("b", 7, false), "the name is used again");
}

#[test]
fn an_unreadable_object_changes_nothing() {
    let mut snapshot = Snapshot::new(Settings::default());
    assert!(snapshot.apply("pods", br#"{"metadata": {"name": 7}}"#, 1, false).is_err());
    assert_eq!(snapshot.revision(), 0);
}

#[test]
fn nulls_as_go_writes_them_are_read() {
    let mut snapshot = Snapshot::new(Settings::default());
    let pod = br#"{"metadata": {"name": "p", "namespace": "ns", "uid": "u", "creationTimestamp": null, "labels": null}, "spec": {"containers": null}}"#;
    assert!(snapshot.apply("pods", pod, 1, false).expect("readable").is_some());
}

#[test]
fn indexes_are_empty_again_when_all_is_gone() {
    let mut cluster = Cluster::new();
    let requests = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}, "ports": [{"containerPort": 1, "hostPort": 1}]}]});
    let mut spec = requests;
    spec["nodeName"] = "n".into();
    let pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}, "ownerReferences": crate::fixture::owner("ReplicaSet", "rs")}, "spec": spec});
    cluster.put("pods", pod.clone());
    cluster.put("services", json!({"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}}}));
    cluster.put("pods", pod);
    let snapshot = &cluster.snapshot;
    let selector = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    assert_eq!(snapshot.selected_pods("ns", &selector).count(), 1);
    assert_eq!(snapshot.owned("uid-rs", resource::PODS, &snapshot.pods).len(), 1);
    assert_eq!(snapshot.pods_on("n").count(), 1);
    assert_eq!(snapshot.usage["n"].requests["cpu"], 1000, "counted once, though it was seen twice");
    assert_eq!(snapshot.usage["n"].ports.len(), 1);
    cluster.remove("pods", "ns", "p");
    cluster.remove("services", "ns", "s");
    let snapshot = &cluster.snapshot;
    assert_eq!(snapshot.selected_pods("ns", &selector).count(), 0);
    assert_eq!(snapshot.indexes.dependents("uid-rs").count(), 0);
    assert!(snapshot.usage.is_empty() && snapshot.indexes.pods_by_node.is_empty());
    assert!(snapshot.indexes.by_uid("uid-p").is_none());
}
