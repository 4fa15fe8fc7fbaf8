//! Weft's own programs on nodes of the lab, attached as the agent attaches them, with every feature on: both pods are
//! isolated both ways and may talk by a rule.
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use abi::{
    Addr, DropReason,
    addr::Prefix,
    config::{FEATURE_ENCAPSULATE, FEATURE_EVENTS, FEATURE_NATIVE, GATEWAY_MAC, Settings},
    event::{Counter, Hook, counter},
    map,
    peer::ANY,
    pod::{HOST, ISOLATED_EGRESS, ISOLATED_INGRESS, Pod, READY},
    policy::{ALLOW, BITS_ANY_PROTO, EGRESS, INGRESS, PolicyKey, PolicyValue},
    route::{
        ADJACENT, CLUSTER_RANGE, LOCAL, NATIVE, NODE_ADDRESS, Node as NodeRow, Route, SEGMENT, SERVICE_RANGE,
        TAKES_NATIVE,
    },
    service::{ALIVE, Backend, SCOPE_CLUSTER, Service, ServiceKey},
};
use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::TcAttachType::{Egress, Ingress},
};
use zerocopy::FromBytes;

use super::{
    lab::Path,
    plain::{self, CLIENT, FAR, HOST_MAC, NEAR},
    spin::PORT_BEHIND,
};
use crate::{
    Args,
    object::{self, Loaded},
    space::{inside, ip},
    tables::{array, hash, prefixes, raw, rules},
};

/// A node's programs.
pub(crate) type Node = Loaded;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// The policy set of all pods here.
const SET: u32 = 7;
/// The service of both nodes' servers: one address for each.
const SERVICE_PORT: u16 = 80;

fn v4(address: Ipv4Addr) -> Addr {
    Addr::from_octets(address.octets())
}

fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, 10 + number)
}

/// The cluster address that leads to a server.
fn service_of(server: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, server.octets()[2])
}

/// Pod to pod on one node, by its address and by a service's.
pub(crate) fn one_node(args: &Args, nodes: &mut Vec<Node>) -> anyhow::Result<[Path; 2]> {
    plain::node("weft")?;
    let hosts = [plain::pod("weft", "weft-c", CLIENT, 1_450)?, plain::pod("weft", "weft-s", NEAR, 1_450)?];
    // A NIC that leads nowhere.
    ip("-n weft link add eth0 index 20 type veth peer name wire")?;
    ip("-n weft link set eth0 up")?;
    ip(&format!("-n weft addr add {}/24 dev eth0", node_address(1)))?;
    nodes.push(node(args, "weft", (1, 0), &[CLIENT, NEAR], &hosts)?);
    Ok(paths("same node: Weft", "same node: Weft, by ClusterIP", "weft", NEAR))
}

/// Pod to pod of another node, by its address and by a service's.
pub(crate) fn two_nodes(args: &Args, nodes: &mut Vec<Node>) -> anyhow::Result<[Path; 4]> {
    let [client, server] = plain::two_nodes("wefts", 1_450)?;
    nodes.push(node(args, "wefts-1", (1, 0), &[CLIENT], &[client])?);
    nodes.push(node(args, "wefts-2", (2, 0), &[FAR], &[server])?);
    let [client, server] = plain::two_nodes("weftp", 1_450)?;
    nodes.push(node(args, "weftp-1", (1, FEATURE_ENCAPSULATE), &[CLIENT], &[client])?);
    nodes.push(node(args, "weftp-2", (2, FEATURE_ENCAPSULATE), &[FAR], &[server])?);
    let [device, device_service] = paths(
        "two nodes: Weft, VXLAN by the device",
        "two nodes: Weft, VXLAN by the device, by ClusterIP",
        "wefts",
        FAR,
    );
    let [program, program_service] = paths(
        "two nodes: Weft, VXLAN header by the program",
        "two nodes: Weft, VXLAN header by the program, by ClusterIP",
        "weftp",
        FAR,
    );
    Ok([device, device_service, program, program_service])
}

/// The same without an outer header.
pub(crate) fn two_nodes_native(args: &Args, nodes: &mut Vec<Node>) -> anyhow::Result<[Path; 2]> {
    let [client, server] = plain::two_nodes("weftn", 1_500)?;
    nodes.push(native(node(args, "weftn-1", (1, FEATURE_NATIVE), &[CLIENT], &[client])?, 2)?);
    nodes.push(native(node(args, "weftn-2", (2, FEATURE_NATIVE), &[FAR], &[server])?, 1)?);
    Ok(paths("two nodes: Weft, native", "two nodes: Weft, native, by ClusterIP", "weftn", FAR))
}

/// The other node's row as `--routing native` has it on one segment.
fn native(mut node: Node, other: u8) -> anyhow::Result<Node> {
    let address = v4(node_address(other));
    let flags = NATIVE[0] | TAKES_NATIVE[0] | SEGMENT[0];
    let row = NodeRow { tunnel: address, next: [address; 2], generation: 1, flags, ..NodeRow::default() };
    array(&mut node.bpf, map::NODES.name, [(u32::from(other), raw::<64>(&row))])?;
    Ok(node)
}

fn paths(name: &'static str, by_service: &'static str, prefix: &str, server: Ipv4Addr) -> [Path; 2] {
    let service = Some(SocketAddrV4::new(service_of(server), SERVICE_PORT));
    [Path::new(name, prefix, server), Path { service, ..Path::new(by_service, prefix, server) }]
}

/// The devices of a node, its tables, its hooks; of a given number, with features beside the usual ones.
fn node(
    args: &Args,
    name: &'static str,
    (number, features): (u8, u32),
    pods: &'static [Ipv4Addr],
    hosts: &[String],
) -> anyhow::Result<Node> {
    ip(&format!("-n {name} link add weft_host index 10 mtu 1450 type veth peer name weft_net index 11"))?;
    ip(&format!("-n {name} link add weft_vxlan index 30 address {HOST_MAC} type vxlan external dstport 8472"))?;
    for device in ["weft_host", "weft_net", "weft_vxlan"] {
        ip(&format!("-n {name} link set {device} address {HOST_MAC} mtu 1450 up"))?;
    }
    let settings = Settings {
        host4: v4(node_address(number)),
        hairpin4: Addr::from_octets([169, 254, 42, 1]),
        node: u32::from(number),
        host_ifindex: 10,
        overlay_ifindex: 30,
        nic_ifindex: 20,
        overlay_port: 8472_u16.to_be(),
        node_port_first: 30_000,
        node_port_last: 32_767,
        masquerade_first: 32_768,
        masquerade_last: 65_535,
        gateway_mac: GATEWAY_MAC,
        features: FEATURE_EVENTS | features,
        jiffies_per_second: 250,
        ..Settings::default()
    };
    let mut node = object::weft(args, &PathBuf::from(format!("/run/bpf/{name}")), &settings)?;
    fill(&mut node.bpf, number, pods)?;
    let hosts = hosts.to_vec();
    inside(name, move || {
        for host in &hosts {
            object::attach(&mut node.bpf, Hook::FromPod.name(), host, Ingress)?;
            object::attach(&mut node.bpf, Hook::ToPod.name(), host, Egress)?;
        }
        object::attach(&mut node.bpf, Hook::FromHost.name(), "weft_net", Ingress)?;
        object::attach(&mut node.bpf, Hook::FromOverlay.name(), "weft_vxlan", Ingress)?;
        object::attach(&mut node.bpf, Hook::FromNetdev.name(), "eth0", Ingress)?;
        object::attach(&mut node.bpf, Hook::ToNetdev.name(), "eth0", Egress)?;
        Ok(node)
    })
}

/// The rows that the agent would write.
fn fill(bpf: &mut Ebpf, number: u8, pods: &[Ipv4Addr]) -> anyhow::Result<()> {
    let own = v4(node_address(number));
    let isolated = [ISOLATED_INGRESS | ISOLATED_EGRESS; 2];
    let row = |address: &Ipv4Addr| {
        let last = address.octets()[3];
        let (id, ifindex, mac) = (u32::from(last), 100 + u32::from(last), [2, 0, 0, 0, 0, last]);
        let addr4 = v4(*address);
        let (generation, policy_set, flags) = (1, [SET; 2], READY);
        (id, Pod { addr4, ifindex, generation, policy_set, isolated, mac, flags, ..Pod::default() })
    };
    let host = (HOST, Pod { addr4: own, ifindex: 10, flags: READY, ..Pod::default() });
    let rows: Vec<(u32, Pod)> = pods.iter().map(row).chain([host]).collect();
    hash(bpf, &map::PODS, rows.iter().map(|(id, row)| (raw::<16>(&row.addr4), raw::<4>(id))))?;
    array(bpf, map::POD.name, rows.iter().map(|(id, row)| (*id, raw::<88>(row))))?;
    let others = [1_u8, 2].map(|id| {
        let flags = if id == number { LOCAL } else { ADJACENT };
        let row = NodeRow { tunnel: v4(node_address(id)), generation: 1, flags, ..NodeRow::default() };
        (u32::from(id), raw::<64>(&row))
    });
    array(bpf, map::NODES.name, others)?;
    let prefix = |octets: [u8; 4], bits: u32| Prefix { prefix_len: 96 + bits, addr: Addr::from_octets(octets) };
    let route = |node: u32, flags: u32| raw::<8>(&Route { node, flags });
    let ways = [
        (prefix([10, 244, 0, 0], 16), route(0, CLUSTER_RANGE)),
        (prefix([10, 96, 0, 0], 16), route(0, SERVICE_RANGE)),
        (prefix([10, 244, 1, 0], 24), route(1, 0)),
        (prefix([10, 244, 2, 0], 24), route(2, 0)),
        (prefix([172, 31, 0, 11], 32), route(1, NODE_ADDRESS)),
        (prefix([172, 31, 0, 12], 32), route(2, NODE_ADDRESS)),
    ];
    prefixes(bpf, &map::ROUTES, ways)?;
    let allow = PolicyValue { verdict: ALLOW, pad: 0, proxy_port: 0, precedence: 100, rule: 1, reserved: 0 };
    let key = |direction| PolicyKey { prefix_len: BITS_ANY_PROTO, set: SET, class: ANY, direction, proto: 0, port: 0 };
    rules(bpf, &map::POLICY, [INGRESS, EGRESS].map(|direction| (key(direction), raw::<16>(&allow))))?;
    services(bpf, pods)?;
    object::epoch(bpf, 2)
}

fn services(bpf: &mut Ebpf, pods: &[Ipv4Addr]) -> anyhow::Result<()> {
    for (id, server, proto) in [(1, NEAR, TCP), (2, NEAR, UDP), (3, FAR, TCP), (4, FAR, UDP)] {
        let pod = if pods.contains(&server) { u32::from(server.octets()[3]) } else { 0 };
        let backend = Backend {
            addr: v4(server),
            port: PORT_BEHIND.to_be(),
            proto,
            flags: ALIVE,
            generation: 1,
            pod,
            node: u32::from(server.octets()[2]),
            reserved: [0; 2],
        };
        array(bpf, map::BACKENDS.name, [(id, raw::<40>(&backend))])?;
        array(bpf, map::SLOTS.name, [(id, raw::<4>(&id))])?;
        let key = ServiceKey { addr: v4(service_of(server)), port: SERVICE_PORT.to_be(), proto, scope: SCOPE_CLUSTER };
        let row = Service { service: id, first_slot: id, count: 1, ..Service::default() };
        hash(bpf, &map::SERVICES, [(raw::<20>(&key), raw::<32>(&row))])?;
    }
    Ok(())
}

/// Packets that passed on all nodes, and what was dropped, in words.
pub(crate) fn counts(nodes: &[Node]) -> anyhow::Result<(u64, String)> {
    let (mut passed, mut dropped) = (0, Vec::new());
    for hook in Hook::ALL {
        passed += count(nodes, counter(0, hook))?;
        for reason in DropReason::ALL {
            match count(nodes, counter(*reason as u8, hook))? {
                0 => {}
                packets => dropped.push(format!("{packets} {} in {}", reason.label(), hook.name())),
            }
        }
    }
    Ok((passed, if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") }))
}

fn count(nodes: &[Node], index: u32) -> anyhow::Result<u64> {
    let mut packets = 0;
    for node in nodes {
        let name = map::COUNTERS.name;
        let table: PerCpuArray<&MapData, [u8; 16]> = node.bpf.map(name).context(name)?.try_into()?;
        let rows = table.get(&index, 0)?;
        packets += rows.iter().filter_map(|row| Counter::read_from_bytes(row).ok()).map(|row| row.packets).sum::<u64>();
    }
    Ok(packets)
}
