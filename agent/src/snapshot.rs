//! What `compile` looks at: the objects that the API server tells, and what only this node knows.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use abi::Addr;
use ipnetwork::IpNetwork;
use objects::{EndpointSlice, Key, Namespace, NetworkPolicy, Node, Pod, Service, Store};

use crate::mtu::Paths;
use crate::{netlink::Hop, routing::Routing};

/// Objects of the cluster and facts of this node at one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All pods.
    pub pods: Arc<Store<Pod>>,
    /// All namespaces.
    pub namespaces: Arc<Store<Namespace>>,
    /// All NetworkPolicies.
    pub policies: Arc<Store<NetworkPolicy>>,
    /// All Services.
    pub services: Arc<Store<Service>>,
    /// All EndpointSlices.
    pub slices: Arc<Store<EndpointSlice>>,
    /// All Nodes.
    pub nodes: Arc<Store<Node>>,
    /// Pods of this node that have an interface of ours, by container id and interface.
    pub attachments: Arc<Vec<Attachment>>,
    /// This node.
    pub node: Arc<NodeFacts>,
    /// How large packets may be.
    pub paths: Arc<Paths>,
}

/// What does not change while the agent runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFacts {
    /// The Node's name.
    pub name: Box<str>,
    /// Its own address of each family, the Node's first one first: of the overlay, and of masqueraded flows.
    pub own: Vec<IpAddr>,
    /// Every other address of the host: what a pod sends there is for the host, and node ports answer there.
    pub addresses: Vec<IpAddr>,
    /// Interface index of `weft_host`.
    pub host_ifindex: u32,
    /// Ranges of pods, of the whole cluster.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Ranges of Services.
    pub service_cidrs: Vec<IpNetwork>,
    /// Ranges outside the cluster that know the way to pods: what pods send there keeps its source.
    pub not_masqueraded: Vec<IpNetwork>,
    /// `--routing`.
    pub routing: Routing,
    /// `--accept-native`.
    pub accept_native: bool,
    /// `--overlay-encapsulation program`.
    pub by_program: bool,
    /// Name of the NIC.
    pub nic: Box<str>,
    /// The kernel's next hops by the NIC: to addresses of other nodes, and to the first addresses of their pods' ranges.
    pub hops: BTreeMap<IpAddr, Hop>,
}

impl NodeFacts {
    /// The node's own IPv4 address in the datapath's form, or [`Addr::ANY`].
    pub fn own4(&self) -> Addr {
        of_family(&self.own, true)
    }

    /// The node's own IPv6 address, or [`Addr::ANY`].
    pub fn own6(&self) -> Addr {
        of_family(&self.own, false)
    }
}

/// The first address of a family in the datapath's form, or [`Addr::ANY`].
pub fn of_family(addresses: &[IpAddr], v4: bool) -> Addr {
    addresses.iter().find(|ip| ip.is_ipv4() == v4).map_or(Addr::ANY, |ip| (*ip).into())
}

/// The first address of each family, in the order that they come in.
pub fn one_of_each(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for ip in addresses {
        if !all.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            all.push(*ip);
        }
    }
    all
}

/// A pod's interface that CNI ADD made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The runtime's id of the sandbox.
    pub container_id: Box<str>,
    /// Name inside the pod.
    pub ifname: Box<str>,
    /// Namespace and name of the Pod.
    pub pod: Key,
    /// `metadata.uid` as the runtime told it; empty if it did not.
    pub uid: Box<str>,
    /// Its addresses, one per family.
    pub addresses: Vec<IpAddr>,
    /// Interface index of the host's end.
    pub ifindex: u32,
    /// MAC address of the pod's end.
    pub mac: [u8; 6],
    /// Host ports and limits.
    pub wishes: crate::cni::wishes::Wishes,
}
