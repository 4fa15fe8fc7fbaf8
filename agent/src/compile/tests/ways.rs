//! Which way leads to another node, by mode and by what the kernel's routes say.
use super::*;
use crate::{netlink::Hop, routing::Routing};

/// The cluster with a second family: n2 on this segment in IPv4, n3 beyond a router, n4 on this segment in IPv6 alone.
fn nodes(routing: Routing, accept_native: bool) -> Snapshot {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().expect("an address");
    let hops = [
        ("172.31.0.12", Hop::Segment),
        ("172.31.9.13", Hop::Router(ip("172.31.0.1"))),
        ("10.244.1.0", Hop::Router(ip("172.31.0.1"))),
        ("10.244.2.0", Hop::Router(ip("172.31.0.1"))),
        ("fd00:172:31::14", Hop::Segment),
        ("10.244.3.0", Hop::Segment),
    ];
    let cluster = cluster();
    let facts = NodeFacts {
        own: vec![[172, 31, 0, 11].into(), ip("fd00:172:31::11")],
        routing,
        accept_native,
        hops: hops.into_iter().map(|(to, hop)| (ip(to), hop)).collect(),
        ..(*cluster.node).clone()
    };
    let node = |name: &str, ranges: &str, ips: [&str; 2]| {
        let [v4, v6] = ips.map(|ip| format!(r#"{{"type":"InternalIP","address":"{ip}"}}"#));
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"podCIDRs":{ranges}}},"status":{{"addresses":[{v4},{v6}]}}}}"#
        )
    };
    let all = [
        node("n1", r#"["10.244.0.0/24","fd00:10:244::/64"]"#, ["172.31.0.11", "fd00:172:31::11"]),
        node("n2", r#"["10.244.1.0/24","fd00:10:244:1::/64"]"#, ["172.31.0.12", "fd00:172:39::12"]),
        node("n3", r#"["10.244.2.0/24"]"#, ["172.31.9.13", "fd00:172:39::13"]),
        node("n4", r#"["10.244.3.0/24","fd00:10:244:3::/64"]"#, ["172.31.9.14", "fd00:172:31::14"]),
    ];
    Snapshot { nodes: store(&all.each_ref().map(String::as_str)), node: Arc::new(facts), ..cluster }
}

/// The rows of nodes 2, 3 and 4 from "tunnel" on, and whom issues are about.
#[track_caller]
fn check(snapshot: &Snapshot, rows: [&str; 3], issues: &[&str]) {
    let compiled = compile(snapshot, &Slots::default());
    let text = text::table(&compiled.tables, Table::Nodes);
    let ends: Vec<&str> =
        text.lines().skip(1).filter_map(|line| line.split_once("generation 1")).map(|x| x.1).collect();
    assert_eq!(ends, rows, "{text}");
    let about: Vec<String> =
        compiled.issues.iter().map(|issue| format!("{} {}", issue.reason, issue.key.name)).collect();
    assert_eq!(about, issues);
}

#[test]
fn by_vxlan_whatever_the_kernel_knows() {
    check(&nodes(Routing::Vxlan, false), ["", "", ""], &[]);
}

#[test]
fn before_a_change_native_packets_are_taken_and_not_sent() {
    let takes = " takes-ipv4 takes-ipv6";
    check(&nodes(Routing::Vxlan, true), [takes, " takes-ipv4", takes], &[]);
}

#[test]
fn auto_is_native_on_a_segment_by_family() {
    let near = [" ipv4 native via 172.31.0.12 takes-ipv4", "", " ipv6 native via fd00:172:31::14 takes-ipv6"];
    check(&nodes(Routing::Auto, false), near, &[]);
}

#[test]
fn native_goes_by_the_routers_that_the_kernel_knows() {
    let rows = [
        " ipv4 native via 172.31.0.12 takes-ipv4 takes-ipv6",
        " ipv4 native via 172.31.0.1 takes-ipv4",
        // A route with no router is none: nobody on the segment answers for pods.
        " takes-ipv4 ipv6 native via fd00:172:31::14 takes-ipv6",
    ];
    check(&nodes(Routing::Native, false), rows, &["NoRoute n2", "NoRoute n4"]);
}

/// The program sends by the NIC, to a neighbour without a look at the routes: what is behind another NIC is the device's.
#[test]
fn the_program_writes_the_header_of_what_the_nic_leads_to() {
    let mut snapshot = nodes(Routing::Vxlan, false);
    Arc::make_mut(&mut snapshot.node).by_program = true;
    check(&snapshot, [" adjacent", "", " by-device"], &[]);
}

/// A node keeps its row, and its flows, when its way changes.
#[test]
fn another_way_is_not_another_node() {
    let before = round(&nodes(Routing::Vxlan, true), &Tables::default());
    let after = round(&nodes(Routing::Auto, false), &before);
    let generations = |tables: &Tables| tables.nodes.values().map(|row| row.generation).collect::<Vec<_>>();
    assert_eq!(generations(&before), generations(&after));
    assert_ne!(before.nodes[&2].flags, after.nodes[&2].flags);
    let back = round(&nodes(Routing::Vxlan, false), &after);
    assert_eq!((back.nodes[&2].flags, back.nodes[&2].next), (0, [Addr::ANY; 2]));
}

/// Node objects change while the agent runs: an address and a range.
#[test]
fn addresses_and_ranges_of_other_nodes_are_followed() {
    let mut snapshot = nodes(Routing::Auto, false);
    let before = round(&snapshot, &Tables::default());
    let all = Arc::make_mut(&mut snapshot.nodes);
    let mut moved = (*all[&Key::cluster("n2")]).clone();
    moved.internal_ips = ["172.31.0.42".parse().expect("an address")].into();
    moved.pod_cidrs = ["10.244.7.0/24".parse().expect("a range")].into();
    all.insert(moved.key.clone(), Arc::new(moved));
    let after = round(&snapshot, &before);
    let text = text::all(&after);
    assert!(text.contains("10.244.7.0/24 -> node 5"), "{text}");
    assert!(text.contains("5 tunnel 172.31.0.42 generation 1\n"), "by VXLAN until the kernel was asked: {text}");
    assert!(!text.contains("10.244.1.0/24"), "{text}");
    assert!(after.nodes[&2].tunnel == Addr::ANY && after.nodes[&2].generation > before.nodes[&2].generation);
    let mut facts = (*snapshot.node).clone();
    facts.hops.insert("172.31.0.42".parse().expect("an address"), Hop::Segment);
    snapshot.node = Arc::new(facts);
    let text = text::all(&round(&snapshot, &after));
    assert!(text.contains("5 tunnel 172.31.0.42 generation 1 ipv4 native via 172.31.0.42 takes-ipv4"), "{text}");
}
