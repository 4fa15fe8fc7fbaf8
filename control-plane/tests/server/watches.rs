//! Watches: what they begin with, what they show, how they end.
use serde_json::{Value, json};

use crate::client::Cluster;

const MAPS: &str = "/api/v1/namespaces/kube-public/configmaps";

fn map(name: &str, color: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"color": color}}})
}

async fn with(names: &[&str]) -> Cluster {
    let cluster = Cluster::start().await;
    let root = format!("{MAPS}/kube-root-ca.crt");
    cluster.admin.until(&root, "the root CA is published", |answer| answer.code == 200).await;
    for name in names {
        cluster.admin.post(MAPS, map(name, "red")).await.expect(201);
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_what_is_there() {
    let cluster = with(&["a"]).await;
    let admin = &cluster.admin;
    let mut events = admin.watch(&format!("{MAPS}?watch=true&labelSelector=color")).await;
    assert_eq!(events.brief().await, "ADDED a");
    admin.post(MAPS, map("b", "red")).await.expect(201);
    assert_eq!(events.brief().await, "ADDED b");
    admin.patch("merge", &format!("{MAPS}/a"), json!({"data": {"x": "y"}})).await.expect(200);
    assert_eq!(events.brief().await, "MODIFIED a");
    let before = admin.get(&format!("{MAPS}/a")).await.expect(200);
    admin.delete(&format!("{MAPS}/a")).await.expect(200);
    let (kind, object) = events.next().await;
    assert_eq!((kind.as_str(), &object["data"]["x"]), ("DELETED", &json!("y")));
    let revision =
        |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(revision(&object) > revision(&before), "a deletion has a revision of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_makes_objects_come_and_go() {
    let cluster = with(&["a"]).await;
    let admin = &cluster.admin;
    let path = format!("{MAPS}/a");
    let list = admin.get(&format!("{MAPS}?labelSelector=color%3Dgreen")).await.expect(200);
    let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision");
    let mut events =
        admin.watch(&format!("{MAPS}?watch=1&labelSelector=color%3Dgreen&resourceVersion={revision}")).await;
    let paint = |color: &'static str| admin.patch("merge", &path, json!({"metadata": {"labels": {"color": color}}}));
    paint("green").await.expect(200);
    assert_eq!(events.brief().await, "ADDED a");
    admin.patch("merge", &path, json!({"data": {"x": "y"}})).await.expect(200);
    assert_eq!(events.brief().await, "MODIFIED a");
    paint("red").await.expect(200);
    let (kind, object) = events.next().await;
    assert_eq!((kind.as_str(), &object["metadata"]["labels"]["color"]), ("DELETED", &json!("green")));
    paint("blue").await.expect(200);
    admin.post(MAPS, map("b", "green")).await.expect(201);
    assert_eq!(events.brief().await, "ADDED b", "what is not selected is not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart() {
    let cluster = with(&["a"]).await;
    let list = cluster.admin.get(MAPS).await.expect(200);
    let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    cluster.admin.post(MAPS, map("b", "red")).await.expect(201);
    cluster.admin.delete(&format!("{MAPS}/a")).await.expect(200);
    let cluster = cluster.restart().await;
    let mut events =
        cluster.admin.watch(&format!("{MAPS}?watch=1&labelSelector=color&resourceVersion={revision}")).await;
    assert_eq!(events.brief().await, "ADDED b");
    assert_eq!(events.brief().await, "DELETED a");
    let past = cluster
        .admin
        .get(&format!("{MAPS}?labelSelector=color&resourceVersionMatch=Exact&resourceVersion={revision}"))
        .await;
    assert_eq!(past.expect(200)["items"][0]["metadata"]["name"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn bookmarks_and_ends() {
    let cluster = with(&["a"]).await;
    let admin = &cluster.admin;
    let query =
        "watch=1&labelSelector=color&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut events = admin.watch(&format!("{MAPS}?{query}&timeoutSeconds=3")).await;
    assert_eq!(events.brief().await, "ADDED a");
    let (kind, object) = events.next().await;
    assert_eq!(
        (kind.as_str(), &object["metadata"]["annotations"]["k8s.io/initial-events-end"]),
        ("BOOKMARK", &json!("true"))
    );
    assert_eq!(object["kind"], "ConfigMap");
    let (kind, _) = events.next().await;
    assert_eq!(kind, "BOOKMARK", "one comes shortly before the end");
    assert!(events.ends().await);
    let refused = admin.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.refused(422);
    assert!(refused.contains("sendInitialEvents"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_watch_names_its_columns_once() {
    let cluster = with(&["a"]).await;
    let client = cluster.admin.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let mut events = client.watch(&format!("{MAPS}?watch=1&labelSelector=color")).await;
    let (kind, first) = events.next().await;
    assert_eq!((kind.as_str(), &first["kind"]), ("ADDED", &json!("Table")));
    assert_eq!(first["rows"][0]["cells"][0], "a");
    assert!(first["columnDefinitions"].as_array().is_some_and(|columns| !columns.is_empty()));
    client.post(MAPS, map("b", "red")).await;
    let (_, second) = events.next().await;
    assert_eq!(second["rows"][0]["cells"][0], "b");
    assert!(second["columnDefinitions"].as_array().is_none_or(Vec::is_empty));
}
