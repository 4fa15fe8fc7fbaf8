//! Addresses and ports of Services over the life of a server.
use serde_json::{Value, json};

use crate::client::Cluster;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["ports"] = json!([{"port": 80}]);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_survive_and_return() {
    let cluster = Cluster::start().await;
    let admin = &cluster.admin;
    let kubernetes = admin.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(kubernetes["spec"]["clusterIP"], "10.96.0.1");
    let made = admin.post(SERVICES, service("a", &json!({"type": "NodePort"}))).await.expect(201);
    let (address, port) = (made["spec"]["clusterIP"].clone(), made["spec"]["ports"][0]["nodePort"].clone());
    assert!(port.as_u64().is_some_and(|port| (30000..=32767).contains(&port)));
    let cluster = cluster.restart().await;
    let admin = &cluster.admin;
    let twin = admin.post(SERVICES, service("b", &json!({"clusterIP": address}))).await.refused(422);
    assert!(twin.contains("provided IP is already allocated"), "{twin}");
    let path = format!("{SERVICES}/a");
    let patched = admin.patch("merge", &path, json!({"metadata": {"labels": {"x": "y"}}})).await.expect(200);
    assert_eq!(patched["spec"]["clusterIP"], address, "an update keeps the address");
    let bare = service("a", &json!({"type": "NodePort"}));
    let replaced = admin.put(&path, bare).await.expect(200);
    assert_eq!((&replaced["spec"]["clusterIP"], &replaced["spec"]["ports"][0]["nodePort"]), (&address, &port));
    admin.delete(&path).await.expect(200);
    let heir = admin.post(SERVICES, service("b", &json!({"clusterIP": address}))).await.expect(201);
    assert_eq!(heir["spec"]["clusterIP"], address);
    let headless = admin.post(SERVICES, service("c", &json!({"clusterIP": "None"}))).await.expect(201);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_service_names_this_server() {
    let cluster = Cluster::start().await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = cluster.admin.get(slice).await.expect(200);
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    assert_eq!(slice["ports"][0]["port"], cluster.address().port());
}
