//! The controllers at work on the objects: what a user sees without any node's help, and with a node that is played.
use serde_json::{Value, json};

use crate::client::Cluster;

fn deployment(replicas: u32) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    json!({"metadata": {"name": "web"}, "spec": spec})
}

async fn add_node(cluster: &Cluster, name: &str) {
    let resources = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let status = json!({
        "capacity": resources, "allocatable": resources,
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now(), "lastTransitionTime": now(), "reason": "KubeletReady"}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}],
    });
    cluster.admin.post("/api/v1/nodes", json!({"metadata": {"name": name}})).await.expect(201);
    cluster.admin.patch("merge", &format!("/api/v1/nodes/{name}/status"), json!({"status": status})).await.expect(200);
}

fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).expect("now is a time").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_pods_on_nodes() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    add_node(&cluster, "n1").await;
    let node = admin.until("/api/v1/nodes/n1", "the node is ready for pods", |answer| {
        let tainted = answer.body["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty());
        answer.body["spec"]["podCIDR"].is_string() && !tainted
    });
    assert_eq!(node.await["spec"]["podCIDR"], "10.244.0.0/24");
    admin.post("/apis/apps/v1/namespaces/default/deployments", deployment(3)).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb";
    let bound = |answer: &crate::client::Answer, count: usize| {
        let items = answer.body["items"].as_array();
        items.is_some_and(|items| items.len() == count && items.iter().all(|pod| pod["spec"]["nodeName"] == "n1"))
    };
    let list = admin.until(pods, "three pods are bound", |answer| bound(answer, 3)).await;
    let pod = &list["items"][0];
    assert_eq!(pod["status"]["qosClass"], "BestEffort");
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(
        pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));

    // The pod is on a node: it ends gracefully, when the node says so.
    let path = format!("/api/v1/namespaces/default/pods/{}", pod["metadata"]["name"].as_str().expect("a name"));
    let marked = admin.delete(&path).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    admin.get(&path).await.expect(200);
    admin.ask("DELETE", &path, Some(&json!({"gracePeriodSeconds": 0}))).await.expect(200);
    admin.get(&path).await.refused(404);
    admin.until(pods, "another takes its place", |answer| bound(answer, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_takes_its_contents_with_it() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    admin.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.expect(201);
    let maps = "/api/v1/namespaces/n/configmaps";
    admin.post(maps, json!({"metadata": {"name": "m"}})).await.expect(201);
    let marked = admin.delete("/api/v1/namespaces/n").await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    admin.until("/api/v1/namespaces/n", "the namespace is gone", |answer| answer.code == 404).await;
    assert_eq!(admin.get(maps).await.expect(200)["items"], json!([]));
    let refused = admin.delete("/api/v1/namespaces/default").await.refused(403);
    assert_eq!(refused, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_follow_their_owner() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    admin.post(deployments, deployment(2)).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb";
    let count = |wanted: usize| {
        move |answer: &crate::client::Answer| answer.body["items"].as_array().is_some_and(|items| items.len() == wanted)
    };
    admin.until(pods, "two pods", count(2)).await;
    admin.delete(&format!("{deployments}/web")).await.expect(200);
    admin.until(pods, "no pods", count(0)).await;
}
