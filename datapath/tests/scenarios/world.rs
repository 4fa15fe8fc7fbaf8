//! The node that all scenarios start from: node 1 of two, with two pods that are ready and one that is not.
use abi::{
    Addr,
    addr::Prefix,
    config::{FEATURE_EVENTS, FEATURE_TRACE, Settings},
    pod::{HOST, Pod, PodId, READY},
    policy::{ALLOW, BITS_ANY_PORT, BITS_ANY_PROTO, BITS_FULL, PolicyKey, PolicyValue},
    route::{CLUSTER_RANGE, LOCAL, NODE_ADDRESS, Node as NodeRow, Route, SERVICE_RANGE},
    service::{ALIVE, Backend, SCOPE_CLUSTER, SCOPE_HOST_PORT, SCOPE_NODE_PORT, Service, ServiceKey},
};
use datapath::{
    parse::{TCP, UDP},
    sim::Node,
};

use super::bench::{addr, v6};

/// Interface indices.
pub(crate) const HOST_SIDE: u32 = 10;
pub(crate) const NET: u32 = 11;
pub(crate) const NIC: u32 = 20;
pub(crate) const OVERLAY: u32 = 30;
pub(crate) const A: u32 = 102;
pub(crate) const B: u32 = 103;
pub(crate) const UNREADY: u32 = 104;

/// Pod ids.
pub(crate) const POD_A: PodId = 2;
pub(crate) const POD_B: PodId = 3;
pub(crate) const POD_UNREADY: PodId = 4;

pub(crate) const GATEWAY: [u8; 6] = abi::config::GATEWAY_MAC;
pub(crate) const POD_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// MAC address of the pod behind a device.
pub(crate) fn mac(ifindex: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, ifindex as u8]
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (ip, bits) = text.split_once('/').unwrap();
    Prefix { prefix_len: 96 + bits.parse::<u32>().unwrap(), addr: addr(ip) }
}

pub(crate) fn settings() -> Settings {
    let (host, hairpin) = (addr("172.31.0.11"), addr("169.254.42.1"));
    let (host4, hairpin4, host6, hairpin6) =
        if v6() { (Addr::ANY, Addr::ANY, host, hairpin) } else { (host, hairpin, Addr::ANY, Addr::ANY) };
    Settings {
        host4,
        host6,
        hairpin4,
        hairpin6,
        node: 1,
        host_ifindex: HOST_SIDE,
        overlay_ifindex: OVERLAY,
        nic_ifindex: NIC,
        overlay_port: 8472_u16.to_be(),
        node_port_first: 30_000,
        node_port_last: 32_767,
        masquerade_first: 61_000,
        masquerade_last: 65_535,
        gateway_mac: GATEWAY,
        features: FEATURE_EVENTS | FEATURE_TRACE,
        jiffies_per_second: 250,
        ..Settings::default()
    }
}

pub(crate) fn node() -> Node {
    let mut node = Node { settings: settings(), now: 1_000_000, ..Node::default() };
    pod(&mut node, POD_A, "10.244.1.2", A, READY);
    pod(&mut node, POD_B, "10.244.1.3", B, READY);
    pod(&mut node, POD_UNREADY, "10.244.1.4", UNREADY, 0);
    pod(&mut node, HOST, "172.31.0.11", HOST_SIDE, READY);
    node.pod.entry(HOST).and_modify(|row| (row.generation, row.mac) = (0, [0; 6]));
    node.nodes.insert(1, NodeRow { tunnel: addr("172.31.0.11"), generation: 1, flags: LOCAL, ..NodeRow::default() });
    node.nodes.insert(2, NodeRow { tunnel: addr("172.31.0.12"), generation: 1, ..NodeRow::default() });
    for (text, node_id, flags) in [
        ("10.244.0.0/16", 0, CLUSTER_RANGE),
        ("10.96.0.0/16", 0, SERVICE_RANGE),
        ("10.244.1.0/24", 1, 0),
        ("10.244.2.0/24", 2, 0),
        ("172.31.0.11/32", 1, NODE_ADDRESS),
        ("172.31.0.12/32", 2, NODE_ADDRESS),
    ] {
        node.route(prefix(text), Route { node: node_id, flags });
    }
    node.fib.put(96, addr("0.0.0.0").bytes(), NIC);
    services(&mut node);
    node
}

pub(crate) fn pod(node: &mut Node, id: PodId, ip: &str, ifindex: u32, flags: u32) {
    node.pods.insert(addr(ip), id);
    let (addr4, addr6) = if v6() { (Addr::ANY, addr(ip)) } else { (addr(ip), Addr::ANY) };
    let row = Pod { addr4, addr6, ifindex, generation: 1, mac: mac(ifindex), flags, ..Pod::default() };
    node.pod.insert(id, row);
}

fn services(node: &mut Node) {
    let (a, b, c) = (("10.244.1.2:8080", POD_A, 1), ("10.244.1.3:8080", POD_B, 1), ("10.244.2.2:8080", 0, 2));
    let (host, other) = (("172.31.0.11:6443", HOST, 1), ("172.31.0.12:6443", 0, 2));
    service(node, 1, "10.96.0.10:80", TCP, &[b]);
    service(node, 2, "10.96.0.11:80", TCP, &[c]);
    service(node, 3, "10.96.0.12:80", TCP, &[a]);
    service(node, 4, "10.96.0.1:443", TCP, &[host]);
    service(node, 5, "10.96.0.2:443", TCP, &[other]);
    service(node, 6, "10.96.0.13:80", TCP, &[]);
    service(node, 7, "10.96.0.14:53", UDP, &[("10.244.1.3:5353", POD_B, 1)]);
    service(node, 8, "10.96.0.15:80", TCP, &[b]);
    service(node, 11, "30080", TCP, &[b]);
    service(node, 12, "30081", TCP, &[c]);
    service(node, 13, "30082", TCP, &[host]);
    service(node, 14, "30083", TCP, &[other]);
    service(node, 15, "30084", TCP, &[]);
    service(node, 16, "30085", TCP, &[b]);
}

/// A service: `at` an address and port, or a bare node port. Its slots are 10 times its id and up.
pub(crate) fn service(node: &mut Node, id: u32, at: &str, proto: u8, backends: &[(&str, PodId, u32)]) {
    let (ip, port, scope) = match at.split_once(':') {
        Some((ip, port)) => (addr(ip), port, SCOPE_CLUSTER),
        None => (Addr::wildcard(!v6()), at, SCOPE_NODE_PORT),
    };
    row(node, id, ServiceKey { addr: ip, port: port.parse::<u16>().unwrap().to_be(), proto, scope }, backends);
}

/// A host port, as the agent writes it: for this node's pods and for all others.
pub(crate) fn host_port(node: &mut Node, id: u32, at: &str, proto: u8, backend: (&str, PodId, u32)) {
    let (ip, port) = at.split_once(':').unwrap();
    for scope in [SCOPE_CLUSTER, SCOPE_HOST_PORT] {
        let key = ServiceKey { addr: addr(ip), port: port.parse::<u16>().unwrap().to_be(), proto, scope };
        row(node, id, key, &[backend]);
    }
}

fn row(node: &mut Node, id: u32, key: ServiceKey, backends: &[(&str, PodId, u32)]) {
    let proto = key.proto;
    let (first_slot, count) = (id * 10, backends.len() as u32);
    for (index, (at, pod, on)) in backends.iter().enumerate() {
        let slot = first_slot + index as u32;
        let (ip, port) = at.split_once(':').unwrap();
        let row = Backend {
            addr: addr(ip),
            port: port.parse::<u16>().unwrap().to_be(),
            proto,
            flags: ALIVE,
            generation: 1,
            pod: *pod,
            node: *on,
            reserved: [0; 2],
        };
        node.backends.insert(slot, row);
        node.slots.insert(slot, slot);
    }
    node.services.insert(key, Service { service: id, first_slot, count, ..Service::default() });
}

/// A rule of set 7: direction, class, protocol (0: any), port (0: any).
pub(crate) fn rule(node: &mut Node, direction: u8, class: u32, proto: u8, port: u16, (verdict, precedence): (u8, u32)) {
    let prefix_len = match (proto, port) {
        (0, _) => BITS_ANY_PROTO,
        (_, 0) => BITS_ANY_PORT,
        _ => BITS_FULL,
    };
    let key = PolicyKey { prefix_len, set: 7, class, direction, proto, port: port.to_be() };
    let rule = 1000 + precedence;
    node.rule(&key, PolicyValue { verdict, pad: 0, proxy_port: 0, precedence, rule, reserved: 0 });
}

/// Isolates a pod by set 7, in both epochs.
pub(crate) fn isolate(node: &mut Node, id: PodId, way: u8) {
    let pod = node.pod.get_mut(&id).unwrap();
    (pod.policy_set, pod.isolated) = ([7; 2], [way; 2]);
    pod.generation += 1;
}

pub(crate) const ALLOWED: (u8, u32) = (ALLOW, 100);
