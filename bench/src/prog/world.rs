//! The node on which packets are counted out: two pods that may talk, one that nobody may talk to, all isolated; a
//! hundred other nodes; as many peers and services as asked for.
use std::{cell::Cell, net::IpAddr};

use abi::{
    Addr,
    addr::Prefix,
    config::{FEATURE_EVENTS, GATEWAY_MAC, Settings},
    map,
    pod::{HOST, ISOLATED_EGRESS, ISOLATED_INGRESS, PEERS_NAMED, Pod, PodId, READY},
    policy::{ALLOW, BITS_ANY_PORT, BITS_FULL, EGRESS, INGRESS, PolicyKey, PolicyValue},
    route::{CLUSTER_RANGE, LOCAL, NODE_ADDRESS, Node, Route, SERVICE_RANGE},
    service::{ALIVE, Backend, SCOPE_CLUSTER, Service, ServiceKey},
};
use aya::Ebpf;

use super::ways::{PORT, REMOTE, SERVICE_PORT, TO_LOCAL, TO_REMOTE};
use crate::{
    object,
    tables::{array, hash, prefixes, raw, rules},
};

/// How much is loaded beside what is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) services: u32,
    pub(crate) peers: u32,
    pub(crate) flows: u32,
}

/// Interface indices.
pub(crate) const HOST_SIDE: u32 = 10;
pub(crate) const NIC: u32 = 20;
pub(crate) const OVERLAY: u32 = 30;
pub(crate) const A: u32 = 102;
pub(crate) const B: u32 = 103;
pub(crate) const C: u32 = 104;

const POD_B: PodId = 3;
/// Number of other nodes.
const NODES: u32 = 100;
const TCP: u8 = 6;
/// Policy sets: of pods A and B; of pod C, which has no rule.
const OPEN: u32 = 7;
const CLOSED: u32 = 8;
/// Classes of peers, more than rules name.
const CLASSES: u32 = 64;

thread_local! { static SIX: Cell<bool> = const { Cell::new(false) } }

/// From here on this thread's pods, peers and services are of this family. The underlay stays IPv4.
pub(crate) fn speak(v6: bool) {
    SIX.set(v6);
}

/// Whether they are IPv6.
pub(crate) fn is_v6() -> bool {
    SIX.get()
}

fn v4(octets: [u8; 4]) -> Addr {
    Addr::from_octets(octets)
}

/// The address, or the IPv6 one that stands for it.
pub(crate) fn addr(octets: [u8; 4]) -> Addr {
    let [a, b, c, d] = octets.map(u16::from);
    if is_v6() { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, a << 8 | b, c << 8 | d]).into() } else { v4(octets) }
}

fn offset(base: [u8; 4], more: u32) -> Addr {
    addr((u32::from_be_bytes(base) + more).to_be_bytes())
}

pub(crate) fn settings(features: u32) -> Settings {
    Settings {
        host4: v4([172, 31, 0, 11]),
        hairpin4: v4([169, 254, 42, 1]),
        host6: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0xb]).into(),
        hairpin6: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]).into(),
        node: 1,
        host_ifindex: HOST_SIDE,
        overlay_ifindex: OVERLAY,
        nic_ifindex: NIC,
        overlay_port: 8472_u16.to_be(),
        node_port_first: 30_000,
        node_port_last: 32_767,
        masquerade_first: 32_768,
        masquerade_last: 65_535,
        gateway_mac: GATEWAY_MAC,
        // As the agent sets it.
        features: FEATURE_EVENTS | features,
        jiffies_per_second: 250,
        ..Settings::default()
    }
}

/// Fills the tables.
pub(crate) fn fill(bpf: &mut Ebpf, sizes: &Sizes) -> anyhow::Result<()> {
    pods(bpf)?;
    nodes(bpf)?;
    policies(bpf, sizes.peers)?;
    services(bpf, sizes.services)?;
    object::epoch(bpf, 2)
}

fn pods(bpf: &mut Ebpf) -> anyhow::Result<()> {
    // As all rules name their peers.
    let isolated = [ISOLATED_INGRESS | ISOLATED_EGRESS | PEERS_NAMED[0] | PEERS_NAMED[1]; 2];
    let pod = |id: u32, last: u8, ifindex: u32, set: u32| {
        let own = addr([10, 244, 1, last]);
        let (addr4, addr6) = if is_v6() { (Addr::ANY, own) } else { (own, Addr::ANY) };
        let row = Pod {
            addr4,
            addr6,
            ifindex,
            generation: 1,
            policy_set: [set; 2],
            isolated,
            mac: [2, 0, 0, 0, 0, last],
            flags: READY,
            ..Pod::default()
        };
        (id, row)
    };
    let host = Pod { addr4: v4([172, 31, 0, 11]), ifindex: HOST_SIDE, flags: READY, ..Pod::default() };
    let rows = [(HOST, host), pod(2, 2, A, OPEN), pod(POD_B, 3, B, OPEN), pod(4, 4, C, CLOSED)];
    hash(
        bpf,
        &map::PODS,
        rows.map(|(id, row)| (raw::<16>(if row.addr6 == Addr::ANY { &row.addr4 } else { &row.addr6 }), raw::<4>(&id))),
    )?;
    array(bpf, map::POD.name, rows.map(|(id, row)| (id, raw::<88>(&row))))
}

fn nodes(bpf: &mut Ebpf) -> anyhow::Result<()> {
    let tunnel = |id: u32| v4((u32::from_be_bytes([172, 31, 0, 10]) + id).to_be_bytes());
    let node = |id: u32| {
        let flags = if id == 1 { LOCAL } else { 0 };
        (id, raw::<64>(&Node { tunnel: tunnel(id), generation: 1, flags, ..Node::default() }))
    };
    array(bpf, map::NODES.name, (1..=NODES + 1).map(node))?;
    let prefix = |addr: Addr, bits: u32| Prefix { prefix_len: 96 + bits, addr };
    let range = |base: [u8; 4], flags: u32| (prefix(addr(base), 16), raw::<8>(&Route { node: 0, flags }));
    let of_pods = |id: u32| (prefix(offset([10, 244, 0, 0], id << 8), 24), raw::<8>(&Route { node: id, flags: 0 }));
    let own = |id: u32| (prefix(tunnel(id), 32), raw::<8>(&Route { node: id, flags: NODE_ADDRESS }));
    let ranges = [range([10, 244, 0, 0], CLUSTER_RANGE), range([10, 96, 0, 0], SERVICE_RANGE)];
    let rows = ranges.into_iter().chain((1..=NODES + 1).flat_map(|id| [of_pods(id), own(id)]));
    prefixes(bpf, &map::ROUTES, rows)
}

/// Class of a peer.
fn class(index: u32) -> u32 {
    1_000 + index % CLASSES
}

fn policies(bpf: &mut Ebpf, peers: u32) -> anyhow::Result<()> {
    let local = [2, 3, 4].map(|last| (raw::<16>(&addr([10, 244, 1, last])), raw::<4>(&class(0))));
    let remote = (0..peers).map(|index| {
        // A hundred to a node, from its .2 on.
        let peer = offset([10, 244, 2, 2], ((index / 100) << 8) + index % 100);
        (raw::<16>(&peer), raw::<4>(&class(index)))
    });
    hash(bpf, &map::PEERS, remote.chain(local))?;
    let rule = |class: u32, direction: u8, port: Option<u16>, number: u32| {
        let (prefix_len, port) = port.map_or((BITS_ANY_PORT, 0), |port| (BITS_FULL, port.to_be()));
        let key = PolicyKey { prefix_len, set: OPEN, class, direction, proto: TCP, port };
        let precedence = 100 + number;
        let value = PolicyValue { verdict: ALLOW, pad: 0, proxy_port: 0, precedence, rule: number, reserved: 0 };
        (key, raw::<16>(&value))
    };
    let by_port = |index: u32| {
        let port = 8_000 + (index % 200) as u16;
        [rule(class(index), INGRESS, Some(port), index), rule(class(index), EGRESS, Some(port), index)]
    };
    // Ports of every class, and everything for the class of those who are measured.
    let all = [rule(class(0), INGRESS, None, 1), rule(class(0), EGRESS, None, 2)];
    rules(bpf, &map::POLICY, (0..peers.min(6_400)).flat_map(by_port).chain(all))
}

fn services(bpf: &mut Ebpf, count: u32) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    // Service ports beside the first are for flows from number 65,536 on.
    for more in 0..16 {
        rows.push((TO_REMOTE, SERVICE_PORT + more, REMOTE, PORT + more, 0, 2));
        rows.push((TO_LOCAL, SERVICE_PORT + more, [10, 244, 1, 3], PORT + more, POD_B, 1));
    }
    for index in 0..count {
        let octets = (u32::from_be_bytes([10, 96, 1, 0]) + index).to_be_bytes();
        let backend = (u32::from_be_bytes([10, 244, 2, 2]) + ((index % NODES) << 8) + index / NODES).to_be_bytes();
        rows.push((octets, SERVICE_PORT, backend, PORT, 0, 2 + index % NODES));
    }
    let numbered = || (1_u32..).zip(&rows);
    let backends = numbered().map(|(id, &(_, _, at, port, pod, node))| {
        let (addr, port) = (addr(at), port.to_be());
        let row = Backend { addr, port, proto: TCP, flags: ALIVE, generation: 1, pod, node, reserved: [0; 2] };
        (id, raw::<40>(&row))
    });
    array(bpf, map::BACKENDS.name, backends)?;
    array(bpf, map::SLOTS.name, numbered().map(|(id, _)| (id, raw::<4>(&id))))?;
    let services = numbered().map(|(id, &(at, port, ..))| {
        let key = ServiceKey { addr: addr(at), port: port.to_be(), proto: TCP, scope: SCOPE_CLUSTER };
        (raw::<20>(&key), raw::<32>(&Service { service: id, first_slot: id, count: 1, ..Service::default() }))
    });
    hash(bpf, &map::SERVICES, services)
}
