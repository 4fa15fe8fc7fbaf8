//! By which way each node is reached, per family: through the overlay, or as packets are.
use std::{collections::BTreeMap, net::IpAddr};

use abi::{
    Addr,
    route::{ADJACENT, BY_DEVICE, LOCAL, NATIVE, NodeId, SEGMENT, SPLITS, TAKES_NATIVE},
};
use objects::{Issue, Key, Node};

use super::Compiled;
use crate::{
    netlink::Hop,
    routing::Routing,
    snapshot::{NodeFacts, Snapshot},
};

/// The way to one node in one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Without an outer header, handed to this address.
    pub next: Option<Addr>,
    /// What comes from there without an outer header has the node's own link address.
    pub segment: bool,
    /// What comes from there without an outer header is taken.
    pub takes: bool,
    /// Why.
    pub reason: String,
}

/// By node and by whether it is IPv4.
pub type Ways = BTreeMap<(NodeId, bool), Way>;

/// Writes the ways into the rows of `NODES`.
pub(super) fn decide(snapshot: &Snapshot, ids: &BTreeMap<&str, NodeId>, out: &mut Compiled) {
    for (name, id) in ids {
        let key = Key::cluster(*name);
        let (Some(node), Some(row)) = (snapshot.nodes.get(&key), out.tables.nodes.get_mut(id)) else { continue };
        if row.flags & LOCAL != 0 {
            continue;
        }
        row.flags &= SPLITS;
        row.next = [Addr::ANY; 2];
        if snapshot.node.by_program {
            row.flags |= match snapshot.node.hops.get(&row.tunnel.into()) {
                Some(Hop::Segment) => ADJACENT,
                Some(Hop::Router(_)) => 0,
                None => BY_DEVICE,
            };
        }
        for (family, v4) in [true, false].into_iter().enumerate() {
            let Some((way, issue)) = way(&snapshot.node, node, v4) else { continue };
            let flags = [(way.next.is_some(), NATIVE), (way.takes, TAKES_NATIVE), (way.segment, SEGMENT)];
            row.flags |= flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag[family]);
            let near = segment(&snapshot.node, node, v4).filter(|_| way.takes);
            row.next[family] = way.next.or(near).unwrap_or(Addr::ANY);
            out.issues.extend(issue.map(|message| Issue {
                kind: "Node",
                key: key.clone(),
                reason: "NoRoute",
                message,
            }));
            out.ways.insert((*id, v4), way);
        }
    }
}

/// The node's address on a segment of this one's NIC.
fn segment(facts: &NodeFacts, node: &Node, v4: bool) -> Option<Addr> {
    let near = |ip: &&IpAddr| ip.is_ipv4() == v4 && facts.hops.get(ip) == Some(&Hop::Segment);
    node.internal_ips.iter().find(near).map(|ip| (*ip).into())
}

/// The way to a node's pods of this family, if it has any, and what is wrong with it.
fn way(facts: &NodeFacts, node: &Node, v4: bool) -> Option<(Way, Option<String>)> {
    let range = node.pod_cidrs.iter().find(|range| range.is_ipv4() == v4)?;
    let (near, nic) = (segment(facts, node, v4), &facts.nic);
    let routed = match facts.hops.get(&range.network()) {
        Some(Hop::Router(router)) => Some(Addr::from(*router)),
        _ => None,
    };
    let mut issue = None;
    let (next, reason) = match (facts.routing, near, routed) {
        (Routing::Vxlan, ..) => (None, "--routing vxlan".to_owned()),
        (_, Some(near), _) => (Some(near), format!("on a segment with this node by {nic}")),
        (Routing::Auto, None, _) => (None, format!("on no segment with this node by {nic}")),
        (Routing::Native, None, Some(router)) => (Some(router), format!("the kernel's route to {range} by {nic}")),
        (Routing::Native, None, None) => {
            let reason = format!("the kernel has no route to {range} through a router by {nic}");
            issue = Some(format!("{reason}: packets go by VXLAN; add or announce that route, or use --routing auto"));
            (None, reason)
        }
    };
    let takes = facts.accept_native || facts.routing == Routing::Native || next.is_some();
    Some((Way { next, segment: takes && near.is_some(), takes, reason }, issue))
}
