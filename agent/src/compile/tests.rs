//! `compile` on small clusters, and what stays the same from one round to the next.
use std::sync::Arc;

use objects::{Object, Store};

use super::*;
use crate::{diff::diff, snapshot::NodeFacts, text};

#[path = "tests/ways.rs"]
mod ways;

fn store<T: Object>(objects: &[&str]) -> Arc<Store<T>> {
    let parse = |json: &&str| {
        let object: T = serde_json::from_str(json).expect("an object");
        (object.key().clone(), Arc::new(object))
    };
    Arc::new(objects.iter().map(parse).collect())
}

fn attachment(name: &str, host: u8, ifindex: u32) -> Attachment {
    Attachment {
        container_id: format!("c-{name}").into(),
        ifname: "eth0".into(),
        pod: Key::new("default", name),
        uid: format!("u-{name}").into(),
        addresses: vec![[10, 244, 0, host].into()],
        ifindex,
        mac: [2, 0, 0, 0, 0, host],
        wishes: crate::cni::wishes::Wishes::default(),
    }
}

const WEB: &str = r#"{"metadata":{"name":"web","namespace":"default","uid":"u-web","labels":{"app":"web"}},
    "spec":{"nodeName":"n1","containers":[]},"status":{"phase":"Running","podIP":"10.244.0.2"}}"#;
const CLIENT: &str = r#"{"metadata":{"name":"client","namespace":"default","uid":"u-client","labels":{"app":"client"}},
    "spec":{"nodeName":"n2","containers":[]},"status":{"phase":"Running","podIP":"10.244.1.9"}}"#;
const POLICY: &str = r#"{"metadata":{"name":"web","namespace":"default"},"spec":{"podSelector":{"matchLabels":{"app":"web"}},
    "ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"client"}}}],"ports":[{"port":80}]}]}}"#;

fn cluster() -> Snapshot {
    let facts = NodeFacts {
        name: "n1".into(),
        own: vec![[172, 31, 0, 11].into()],
        addresses: vec![[192, 168, 7, 1].into()],
        host_ifindex: 3,
        cluster_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        not_masqueraded: Vec::new(),
        nic: "eth0".into(),
        ..NodeFacts::default()
    };
    Snapshot {
        pods: store(&[WEB, CLIENT]),
        namespaces: store(&[r#"{"metadata":{"name":"default"}}"#]),
        policies: store(&[POLICY]),
        services: store(&[r#"{"metadata":{"name":"web","namespace":"default"},
            "spec":{"type":"NodePort","clusterIP":"10.96.0.9","ports":[{"port":80,"nodePort":30080}]}}"#]),
        slices: store(&[
            r#"{"metadata":{"name":"web-1","namespace":"default","labels":{"kubernetes.io/service-name":"web"}},
            "addressType":"IPv4","ports":[{"name":"","port":8080}],
            "endpoints":[{"addresses":["10.244.0.2"],"nodeName":"n1"},{"addresses":["10.244.1.7"],"nodeName":"n2"}]}"#,
        ]),
        nodes: store(&[
            r#"{"metadata":{"name":"n1"},"spec":{"podCIDR":"10.244.0.0/24"},
                "status":{"addresses":[{"type":"InternalIP","address":"172.31.0.11"}]}}"#,
            r#"{"metadata":{"name":"n2"},"spec":{"podCIDR":"10.244.1.0/24"},
                "status":{"addresses":[{"type":"InternalIP","address":"172.31.0.12"}]}}"#,
        ]),
        attachments: Arc::new(vec![attachment("web", 2, 7)]),
        node: Arc::new(facts),
        paths: Arc::default(),
        foreign: Arc::default(),
    }
}

/// The tables after a round, as the kernel would hold them.
fn round(snapshot: &Snapshot, have: &Tables) -> Tables {
    let want = compile(snapshot, &Slots::read(have)).tables;
    let mut store = crate::apply::memory::MemoryStore::new(have.clone(), 0, 0);
    let mut now = have.clone();
    crate::apply::apply(&mut store, &mut now, &diff(have, &want)).expect("this store never fails");
    now
}

#[test]
fn a_cluster_in_tables() {
    let compiled = compile(&cluster(), &Slots::default());
    let tables = text::all(&compiled.tables);
    let holds = |line: &str| assert!(tables.contains(line), "{line} is not in\n{tables}");
    holds("10.244.0.0/16 -> node 0 cluster-range");
    holds("10.96.0.0/16 -> node 0 service-range");
    holds("10.244.1.0/24 -> node 2");
    holds("172.31.0.12/32 -> node 2 node-address");
    holds("172.31.0.11 -> pod 1");
    holds("192.168.7.1 -> pod 1");
    holds("192.168.7.1/32 -> node 1 node-address");
    holds("2 10.244.0.2 device 7 mac 02:00:00:00:00:02 generation 1");
    holds("10.96.0.9 tcp 80 -> slots 0 + 2");
    holds("node-port tcp 30080 -> slots 0 + 2");
    holds("10.244.0.2 tcp 8080 pod 2 node 1 generation 1");
    holds("10.244.1.7 tcp 8080 pod 0 node 2 generation 1");
    assert_eq!(compiled.ready.len(), 1);
    assert_eq!(compiled.issues, []);
}

/// The same cluster with a second family, the node n2 with IPv6 alone.
#[test]
fn a_cluster_of_two_families_in_tables() {
    let mut snapshot = cluster();
    let facts = NodeFacts {
        own: vec![[172, 31, 0, 11].into(), "fd00:172:31::11".parse().expect("an address")],
        cluster_cidrs: ["10.244.0.0/16", "fd00:10:244::/56"].map(|range| range.parse().expect("a range")).to_vec(),
        ..(*snapshot.node).clone()
    };
    snapshot.node = Arc::new(facts);
    snapshot.nodes = store(&[
        r#"{"metadata":{"name":"n1"},"spec":{"podCIDRs":["10.244.0.0/24","fd00:10:244::/64"]},"status":{"addresses":[
            {"type":"InternalIP","address":"172.31.0.11"},{"type":"InternalIP","address":"fd00:172:31::11"}]}}"#,
        r#"{"metadata":{"name":"n2"},"spec":{"podCIDRs":["10.244.1.0/24","fd00:10:244:1::/64"]},"status":{"addresses":[
            {"type":"InternalIP","address":"172.31.0.12"},{"type":"InternalIP","address":"fd00:172:31::12"}]}}"#,
        r#"{"metadata":{"name":"n3"},"spec":{"podCIDR":"fd00:10:244:2::/64"},"status":{"addresses":[
            {"type":"InternalIP","address":"fd00:172:31::13"}]}}"#,
    ]);
    let mut web = attachment("web", 2, 7);
    web.addresses.push("fd00:10:244::2".parse().expect("an address"));
    snapshot.attachments = Arc::new(vec![web]);
    let compiled = compile(&snapshot, &Slots::default());
    let tables = text::all(&compiled.tables);
    let holds = |line: &str| assert!(tables.contains(line), "{line} is not in\n{tables}");
    holds("fd00:10:244::/56 -> node 0 cluster-range");
    holds("10.244.1.0/24 -> node 2");
    holds("fd00:10:244:1::/64 -> node 2");
    holds("fd00:10:244:2::/64 -> node 3");
    holds("fd00:172:31::12/128 -> node 2 node-address");
    holds("fd00:172:31::11 -> pod 1");
    holds("10.244.0.2 -> pod 2");
    holds("fd00:10:244::2 -> pod 2");
    assert_eq!(compiled.tables.nodes[&2].tunnel.to_string(), "172.31.0.12", "by IPv4 where both have it");
    assert_eq!(compiled.tables.nodes[&3].tunnel.to_string(), "fd00:172:31::13");
    assert_eq!(compiled.issues, []);
}

#[test]
fn a_second_round_changes_nothing() {
    let snapshot = cluster();
    let have = round(&snapshot, &Tables::default());
    let again = compile(&snapshot, &Slots::read(&have));
    assert_eq!(diff(&have, &again.tables), []);
}

#[test]
fn a_pod_is_not_ready_before_the_watch_has_told_of_it() {
    let mut snapshot = cluster();
    snapshot.pods = store(&[CLIENT]);
    let compiled = compile(&snapshot, &Slots::default());
    assert!(compiled.ready.is_empty());
    assert_eq!(compiled.tables.pod[&2].flags, 0);
    // A successor of the same name is another pod.
    snapshot.pods = store(&[&WEB.replace("u-web", "u-later"), CLIENT]);
    assert!(compile(&snapshot, &Slots::default()).ready.is_empty());
}

#[test]
fn a_row_that_becomes_free_is_marked_and_rests_for_a_round() {
    let mut snapshot = cluster();
    let have = round(&snapshot, &Tables::default());
    snapshot.attachments = Arc::new(vec![attachment("web", 3, 8)]);
    let have = round(&snapshot, &have);
    assert_eq!((have.pod[&2].ifindex, have.pod[&2].generation), (0, 2));
    assert_eq!(have.pod[&3].ifindex, 8);
    snapshot.attachments = Arc::new(vec![attachment("web", 3, 8), attachment("client", 4, 9)]);
    let have = round(&snapshot, &have);
    assert_eq!((have.pod[&2].ifindex, have.pod[&2].generation), (9, 3));
}

#[test]
fn generations_go_up_when_rules_or_their_peers_change() {
    let mut snapshot = cluster();
    let first = round(&snapshot, &Tables::default());
    assert_eq!(first.pod[&2].generation, 1);
    snapshot.policies = store(&[&POLICY.replace("80", "81")]);
    let second = round(&snapshot, &first);
    assert_eq!(second.pod[&2].generation, 2);
    assert_eq!(second.epoch(), first.epoch() + 1);
    snapshot.pods = store(&[WEB, &CLIENT.replace("10.244.1.9", "10.244.1.10")]);
    let third = round(&snapshot, &second);
    assert_eq!(third.pod[&2].generation, 3);
    assert_eq!(third.epoch(), second.epoch(), "the rules are the same");
    snapshot.services = Arc::default();
    assert_eq!(round(&snapshot, &third).pod[&2].generation, 3);
}

#[test]
fn two_nodes_of_one_address_are_an_issue() {
    let mut snapshot = cluster();
    let nodes = Arc::make_mut(&mut snapshot.nodes);
    let mut twin = (*nodes[&Key::cluster("n2")]).clone();
    twin.key = Key::cluster("n3");
    nodes.insert(twin.key.clone(), Arc::new(twin));
    let issues = compile(&snapshot, &Slots::default()).issues;
    assert_eq!(issues.iter().map(|issue| issue.reason).collect::<Vec<_>>(), ["AddressConflict"]);
}

#[test]
fn the_api_server_keeps_its_last_backend() {
    let service = r#"{"metadata":{"name":"kubernetes","namespace":"default"},
        "spec":{"clusterIP":"10.96.0.1","ports":[{"name":"https","port":443,"targetPort":6443}]}}"#;
    let slice = r#"{"metadata":{"name":"kubernetes","namespace":"default",
        "labels":{"kubernetes.io/service-name":"kubernetes"}},"addressType":"IPv4","ports":[{"name":"https","port":6443}],
        "endpoints":[{"addresses":["172.31.0.12"]}]}"#;
    let mut snapshot = cluster();
    snapshot.services = store(&[service]);
    snapshot.slices = store(&[slice]);
    let before = compile(&snapshot, &Slots::default()).tables;
    snapshot.slices = Arc::default();
    let compiled = compile(&snapshot, &Slots::read(&before));
    assert_eq!(compiled.tables.backends, before.backends);
    assert_eq!(compiled.tables.services, before.services);
    assert_eq!(compiled.issues.iter().filter(|issue| issue.reason == "EndpointsKept").count(), 1);
    snapshot.services = Arc::default();
    assert!(compile(&snapshot, &Slots::read(&before)).tables.services.is_empty(), "without the Service it goes");
}

#[test]
fn a_static_pod_goes_by_its_mirror() {
    let mut snapshot = cluster();
    let mirror = WEB.replace(r#""labels""#, r#""annotations":{"kubernetes.io/config.mirror":"hash"},"labels""#);
    snapshot.pods = store(&[&mirror, CLIENT]);
    for (uid, ready) in [("hash", true), ("u-web", true), ("other", false)] {
        snapshot.attachments = Arc::new(vec![Attachment { uid: uid.into(), ..attachment("web", 2, 9) }]);
        let compiled = compile(&snapshot, &Slots::default());
        assert_eq!(!compiled.ready.is_empty(), ready, "{uid}");
        let isolated = compiled.tables.pod.values().any(|row| row.isolated[0] != 0);
        assert_eq!(isolated, ready, "the policy is the mirror's: {uid}");
    }
}

#[test]
fn what_is_noted_is_what_would_be_compiled() {
    let mut memo = Memo::default();
    let mut snapshot = cluster();
    let check = |snapshot: &Snapshot, memo: &mut Memo| {
        let again = compile_again(snapshot, &Slots::default(), memo).tables;
        assert_eq!(again, compile(snapshot, &Slots::default()).tables);
    };
    check(&snapshot, &mut memo);
    snapshot.attachments = Arc::new(vec![attachment("web", 2, 9)]);
    check(&snapshot, &mut memo);
    snapshot.slices = Arc::default();
    check(&snapshot, &mut memo);
    Arc::make_mut(&mut snapshot.services).clear();
    check(&snapshot, &mut memo);
}
