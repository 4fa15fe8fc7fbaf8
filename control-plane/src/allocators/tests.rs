//! Which Service gets what.
use std::sync::Arc;

use api::schema::row;
use serde_json::{Value, json};

use super::{Allocators, path};
use crate::storage::cache::Cache;
use crate::storage::memory::Memory;

async fn allocators() -> Allocators {
    let cache = Cache::start(Arc::new(Memory::default())).await.expect("an empty store");
    Allocators::new(&cache, "10.96.0.0/24".parse().expect("a range"), 30000..=30003)
}

async fn create(allocators: &Allocators, name: &str, mut object: Value) -> Result<Value, String> {
    let row = row("", "v1", "services").expect("a resource");
    let mut allocation = allocators.begin(row, name).await.expect("a Service");
    let errors = allocation.assign(&mut object, None);
    if let Some(error) = errors.first() {
        return Err(error.to_string());
    }
    allocation.commit(Some(&object));
    Ok(object)
}

async fn delete(allocators: &Allocators, name: &str) {
    let row = row("", "v1", "services").expect("a resource");
    allocators.begin(row, name).await.expect("a Service").commit(None);
}

#[tokio::test]
async fn addresses_are_unique_and_come_back() {
    let allocators = allocators().await;
    let wanted = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.10"}});
    create(&allocators, "n/a", wanted.clone()).await.expect("a free address");
    let refused = create(&allocators, "n/b", wanted.clone()).await.expect_err("a taken address");
    assert_eq!(
        refused,
        "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated"
    );
    delete(&allocators, "n/a").await;
    create(&allocators, "n/b", wanted).await.expect("a free address");
    let outside = create(&allocators, "n/c", json!({"spec": {"type": "ClusterIP", "clusterIP": "10.97.0.1"}})).await;
    assert!(outside.expect_err("not in the range").contains("is not in the valid range"));
    let given = create(&allocators, "n/d", json!({"spec": {"type": "ClusterIP"}})).await.expect("a free address");
    assert!(path::str(&given, "spec.clusterIP").starts_with("10.96.0."));
    assert_eq!(path::get(&given, "spec.ipFamilies"), &json!(["IPv4"]));
    let headless = create(&allocators, "n/e", json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}})).await;
    assert_eq!(path::get(&headless.expect("no address"), "spec.clusterIPs"), &json!(["None"]));
}

#[tokio::test]
async fn the_range_ends() {
    let allocators = allocators().await;
    for n in 0..254 {
        let given = create(&allocators, &format!("n/{n}"), json!({"spec": {"type": "ClusterIP"}})).await;
        given.expect("there are 254 addresses");
    }
    create(&allocators, "n/more", json!({"spec": {"type": "ClusterIP"}})).await.expect_err("the range is full");
}

#[tokio::test]
async fn node_ports_are_unique_by_protocol() {
    let allocators = allocators().await;
    let both = json!({"spec": {"type": "NodePort", "ports": [
        {"port": 53, "protocol": "TCP", "nodePort": 30001},
        {"port": 53, "protocol": "UDP"},
        {"port": 80, "protocol": "TCP"},
    ]}});
    let given = create(&allocators, "n/a", both).await.expect("free ports");
    assert_eq!(path::list(&given, "spec.ports")[1]["nodePort"], 30001, "TCP and UDP share a port");
    let taken =
        create(&allocators, "n/b", json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 30001}]}}))
            .await;
    assert_eq!(
        taken.expect_err("a taken port"),
        "spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"
    );
    let outside =
        create(&allocators, "n/c", json!({"spec": {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}})).await;
    assert_eq!(
        outside.expect_err("a port outside"),
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30003"
    );
}
