//! Which Service gets what.
use std::sync::Arc;

use api::registry::Ctx;
use api::schema::{Row, row};
use serde_json::{Value, json};

use super::{Allocators, path};
use crate::storage::cache::Cache;
use crate::storage::memory::Memory;

async fn over(ranges: &str) -> Allocators {
    let cache = Cache::start(Arc::new(Memory::default())).await.expect("an empty store");
    Allocators::new(&cache, ranges.parse().expect("ranges"), 30000..=30003)
}

async fn allocators() -> Allocators {
    over("10.96.0.0/24").await
}

fn context(row: &Row) -> Ctx<'_> {
    Ctx { row, now: jiff::Timestamp::UNIX_EPOCH, user: "tester", subresource: None }
}

async fn create(allocators: &Allocators, name: &str, mut object: Value) -> Result<Value, String> {
    let row = row("", "v1", "services").expect("a resource");
    let mut allocation = allocators.begin(row, name).await.expect("a Service");
    api::registry::prepare_create(&context(row), &mut object);
    let errors = allocation.assign(&mut object, None);
    if let Some(error) = errors.first() {
        return Err(error.to_string());
    }
    allocation.commit(Some(&object));
    Ok(object)
}

/// Writes a spec over what is there.
async fn update(allocators: &Allocators, name: &str, old: &Value, spec: Value) -> Result<Value, String> {
    let row = row("", "v1", "services").expect("a resource");
    let mut allocation = allocators.begin(row, name).await.expect("a Service");
    let mut new = json!({ "spec": spec });
    api::registry::prepare_update(&context(row), &mut new, old);
    if let Some(error) = allocation.assign(&mut new, Some(old)).first() {
        return Err(error.to_string());
    }
    allocation.commit(Some(&new));
    Ok(new)
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

const PAIR: &str = "10.96.0.0/24,fd00:10:96::/112";

fn ips(service: &Value) -> Vec<&str> {
    path::list(service, "spec.clusterIPs").iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn each_family_has_its_range() {
    let allocators = over(PAIR).await;
    let both = || json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}});
    let two = create(&allocators, "n/a", both()).await.expect("two addresses");
    assert!(matches!(ips(&two)[..], [four, six] if four.starts_with("10.96.0.") && six.starts_with("fd00:10:96::")));
    assert_eq!(path::str(&two, "spec.clusterIP"), ips(&two)[0]);
    let second = json!({"spec": {"type": "ClusterIP", "clusterIP": ips(&two)[1]}});
    let taken = create(&allocators, "n/b", second.clone()).await.expect_err("a taken address");
    assert!(taken.contains("provided IP is already allocated"), "{taken}");
    let outside = json!({"spec": {"type": "ClusterIP", "clusterIP": "fd00:10:97::1"}});
    let outside = create(&allocators, "n/b", outside).await.expect_err("not in the range");
    assert!(outside.ends_with("The range of valid IPs is fd00:10:96::/112"), "{outside}");
    let network = json!({"spec": {"type": "ClusterIP", "clusterIP": "fd00:10:96::"}});
    create(&allocators, "n/b", network).await.expect_err("the network's own");
    let last = json!({"spec": {"type": "ClusterIP", "clusterIP": "fd00:10:96::ffff"}});
    create(&allocators, "n/last", last).await.expect("IPv6 has no broadcast address");
    let one = json!({"type": "ClusterIP", "ipFamilyPolicy": "SingleStack"});
    let one = update(&allocators, "n/a", &two, one).await.expect("the second is released");
    assert_eq!(ips(&one), [ips(&two)[0]]);
    create(&allocators, "n/b", second).await.expect("the second address is free again");
    let mut again = one["spec"].clone();
    again["ipFamilyPolicy"] = "PreferDualStack".into();
    let again = update(&allocators, "n/a", &one, again).await.expect("another second address");
    assert_eq!((ips(&again)[0], ips(&again).len()), (ips(&one)[0], 2));
    delete(&allocators, "n/a").await;
    let wanted = json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "clusterIP": ips(&again)[0],
        "clusterIPs": ips(&again)}});
    create(&allocators, "n/heir", wanted).await.expect("both came back");
}

#[tokio::test]
async fn a_full_range_takes_nothing_from_the_other() {
    let allocators = over("fd00::/125,10.96.0.0/24").await;
    for n in 1..=7 {
        let six = create(&allocators, &format!("n/{n}"), json!({"spec": {"type": "ClusterIP"}})).await;
        assert!(ips(&six.expect("there are seven addresses"))[0].starts_with("fd00::"));
    }
    let wanted = json!({"spec": {"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]}});
    let refused = create(&allocators, "n/more", wanted).await.expect_err("the range is full");
    assert!(refused.contains("range is full"), "{refused}");
    for n in 1..=254 {
        let four = json!({"spec": {"type": "ClusterIP", "ipFamilies": ["IPv4"]}});
        create(&allocators, &format!("m/{n}"), four).await.expect("all of the other range");
    }
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
