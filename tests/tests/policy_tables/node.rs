//! One node of a random cluster as its agent sees it: the snapshot that it compiles, and the flows that it judges.
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use agent::{
    cni::wishes::Wishes,
    compile::{Compiled, compile},
    slots::Slots,
    snapshot::{Attachment, NodeFacts, Snapshot},
    tables::Tables,
};
use objects::{Key, Node};
use policy::{
    Input, LocalPod,
    reference::{self, Decision, Packet},
};

use crate::cluster::{NODES, OTHERS, World};

/// Interface index of `weft_host`, as the programs' settings say.
pub(crate) const HOST_SIDE: u32 = 10;
/// Interface indices of pods: from here on, and so many.
pub(crate) const FIRST_POD: u32 = 100;
/// Of ten pods, four lives each.
pub(crate) const POD_DEVICES: u32 = 40;

/// The tables to be, after those that are.
pub(crate) fn want(world: &World, node: usize, have: &Tables) -> Compiled {
    compile(&snapshot(world, node), &Slots::read(have))
}

fn snapshot(world: &World, node: usize) -> Snapshot {
    let nodes = NODES.iter().enumerate().map(|(index, address)| {
        let key = Key::cluster(format!("node-{}", index + 1));
        let range = format!("10.244.{}.0/24", index + 1).parse().unwrap();
        let (internal_ips, pod_cidrs) = ([address.parse().unwrap()].into(), [range].into());
        (key.clone(), Arc::new(Node { key, internal_ips, pod_cidrs, ..Node::default() }))
    });
    let facts = NodeFacts {
        name: format!("node-{}", node + 1).into(),
        own: vec![NODES[node].parse().unwrap()],
        host_ifindex: HOST_SIDE,
        cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        not_masqueraded: Vec::new(),
        ..NodeFacts::default()
    };
    Snapshot {
        pods: Arc::new(world.pods.clone()),
        namespaces: Arc::new(world.namespaces.clone()),
        policies: Arc::new(world.policies.clone()),
        nodes: Arc::new(nodes.collect()),
        attachments: Arc::new(world.ledgers[node].iter().map(attachment).collect()),
        node: Arc::new(facts),
        ..Snapshot::default()
    }
}

/// Of every pod: the source of each packet that one sends.
pub(crate) const POD_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

fn attachment(pod: &LocalPod) -> Attachment {
    let ifindex = ifindex(pod);
    Attachment {
        container_id: pod.uid.clone(),
        ifname: "eth0".into(),
        pod: pod.key.clone(),
        uid: pod.uid.clone(),
        addresses: vec![v4(pod).into()],
        ifindex,
        mac: POD_MAC,
        wishes: Wishes::default(),
    }
}

fn ifindex(pod: &LocalPod) -> u32 {
    FIRST_POD + pod.uid.parse::<u32>().unwrap()
}

fn v4(pod: &LocalPod) -> Ipv4Addr {
    let address = pod.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    address.unwrap()
}

/// One end of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct End {
    pub(crate) address: Ipv4Addr,
    /// Of a pod of this node: which one, by its interface. An address may go from one pod to another.
    pub(crate) ifindex: Option<u32>,
}

/// A flow of which this node judges at least one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    pub(crate) from: End,
    pub(crate) to: End,
    pub(crate) proto: u8,
    pub(crate) port: u16,
}

/// Every pair of ends of which one is a pod of this node in one of the worlds, with these protocols and ports.
pub(crate) fn flows(worlds: [&World; 2], node: usize, packets: &[(u8, u16)]) -> Vec<Flow> {
    let local = worlds.iter().flat_map(|world| &world.ledgers[node]);
    let local: BTreeSet<End> = local.map(|pod| End { address: v4(pod), ifindex: Some(ifindex(pod)) }).collect();
    let other = 2 - node;
    let remote = (3..13).map(|n| format!("10.244.{other}.{n}")).chain(OTHERS.iter().map(ToString::to_string));
    let remote = remote.filter_map(|text| text.parse().ok()).filter(|address| !is_own(*address, node));
    let remote: Vec<End> = remote.map(|address| End { address, ifindex: None }).collect();
    let mut flows = Vec::new();
    for &pod in &local {
        let out = local.iter().chain(&remote).map(|to| (pod, *to));
        let pairs = out.chain(remote.iter().map(|from| (*from, pod)));
        let pairs = pairs.filter(|(from, to)| from == to || from.address != to.address);
        flows.extend(
            pairs.flat_map(|(from, to)| packets.iter().map(move |&(proto, port)| Flow { from, to, proto, port })),
        );
    }
    flows
}

/// An address of this node's range that is no pod's: nothing comes from there.
fn is_own(address: Ipv4Addr, node: usize) -> bool {
    address.octets()[..3] == [10, 244, node as u8 + 1]
}

/// What the API says of a flow, egress and ingress, as far as this node judges them; `None`: an end is not there.
pub(crate) fn decide(input: &Input, node: usize, flow: &Flow) -> Option<[Decision; 2]> {
    let mut decisions = [Decision::NotIsolated, Decision::NotIsolated];
    let pod = |end: &End| input.local.iter().find(|pod| v4(pod) == end.address && Some(ifindex(pod)) == end.ifindex);
    if [&flow.from, &flow.to].iter().any(|end| end.ifindex.is_some() && pod(end).is_none()) {
        return None;
    }
    let (proto, port) = (flow.proto, if flow.proto == 1 { 0 } else { flow.port });
    if flow.from == flow.to {
        return Some(decisions);
    }
    if let Some(pod) = pod(&flow.from) {
        let packet = Packet { ingress: false, peer: flow.to.address.into(), proto, port };
        decisions[0] = reference::decide(input, &input.pods[&pod.key], &packet);
    }
    let own_node = IpAddr::from(flow.from.address) == NODES[node].parse::<IpAddr>().unwrap();
    if let Some(pod) = pod(&flow.to).filter(|_| !own_node) {
        let packet = Packet { ingress: true, peer: flow.from.address.into(), proto, port };
        decisions[1] = reference::decide(input, &input.pods[&pod.key], &packet);
    }
    Some(decisions)
}

/// True if the flow passes this node, as the API says.
pub(crate) fn passes(input: &Input, node: usize, flow: &Flow) -> bool {
    let denies = |decision: &Decision| matches!(decision, Decision::Denied(_));
    decide(input, node, flow).is_some_and(|decisions| !decisions.iter().any(denies))
}
