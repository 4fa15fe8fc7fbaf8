//! `--routing`: how packets go to the pods of other nodes, and what the kernel's routes say of them.
//!
//! The kernel is asked here; what follows from its answers is decided in `compile::ways`, which is pure.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use objects::{Node, Store};

use crate::{
    Shared,
    netlink::{Hop, Link, Netlink},
    snapshot::NodeFacts,
};

/// How packets go to the pods of other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Routing {
    /// With an outer VXLAN header, always.
    #[default]
    Vxlan,
    /// As they are: the nodes are on one segment, or routers know the pods' ranges.
    Native,
    /// As they are where the nodes are on one segment, by VXLAN elsewhere.
    Auto,
}

impl Routing {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Routing::Vxlan => "vxlan",
            Routing::Native => "native",
            Routing::Auto => "auto",
        }
    }
}

/// Brings the facts up to date with the kernel's routes to the other nodes and to their pods.
pub async fn look(shared: &Shared, netlink: &Netlink, nic: &Link) {
    let snapshot = shared.inbox.snapshot();
    let facts = &snapshot.node;
    if facts.routing == Routing::Vxlan && !facts.accept_native && !facts.by_program {
        return;
    }
    let now = hops(netlink, nic, &snapshot.nodes, facts).await;
    if now != facts.hops || *nic.name != *facts.nic {
        tracing::info!(routes = now.len(), nic = nic.name, "the ways to other nodes have changed");
        let nic: Box<str> = nic.name.as_str().into();
        shared.inbox.change(|state| state.node = Arc::new(NodeFacts { hops: now, nic, ..(*state.node).clone() }));
    }
}

/// The kernel's next hops by the NIC: to the nodes' own addresses, and in native mode to their pods' ranges.
async fn hops(netlink: &Netlink, nic: &Link, nodes: &Store<Node>, facts: &NodeFacts) -> BTreeMap<IpAddr, Hop> {
    let mut hops = BTreeMap::new();
    for (_, node) in nodes.iter().filter(|(key, _)| key.name != facts.name) {
        let ranges = node.pod_cidrs.iter().map(IpNetwork::network).filter(|_| facts.routing == Routing::Native);
        let asked = node.internal_ips.iter().map(|ip| (*ip, false)).chain(ranges.map(|ip| (ip, true)));
        for (to, forced) in asked {
            match netlink.hop(nic, to, forced).await {
                Ok(Some(hop)) => drop(hops.insert(to, hop)),
                Ok(None) => {}
                Err(error) => tracing::warn!(error = crate::chain(&error), "a route cannot be read"),
            }
        }
    }
    hops
}
