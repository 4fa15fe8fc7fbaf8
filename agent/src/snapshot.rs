//! What `compile` looks at: the objects that the API server tells, and what only this node knows.
use std::{net::Ipv4Addr, sync::Arc};

use ipnetwork::IpNetwork;
use objects::{EndpointSlice, Key, Namespace, NetworkPolicy, Node, Pod, Service, Store};

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
}

/// What does not change while the agent runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFacts {
    /// The Node's name.
    pub name: Box<str>,
    /// Its address: of the overlay, and of masqueraded flows.
    pub address: Ipv4Addr,
    /// Every other address of the host: what a pod sends there is for the host, and node ports answer there.
    pub addresses: Vec<Ipv4Addr>,
    /// Interface index of `weft_host`.
    pub host_ifindex: u32,
    /// Ranges of pods, of the whole cluster.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Ranges of Services.
    pub service_cidrs: Vec<IpNetwork>,
}

impl Default for NodeFacts {
    fn default() -> NodeFacts {
        let (name, address) = ("".into(), Ipv4Addr::UNSPECIFIED);
        let addresses = Vec::new();
        NodeFacts { name, address, addresses, host_ifindex: 0, cluster_cidrs: Vec::new(), service_cidrs: Vec::new() }
    }
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
    /// Its address.
    pub address: Ipv4Addr,
    /// Interface index of the host's end.
    pub ifindex: u32,
    /// MAC address of the pod's end.
    pub mac: [u8; 6],
    /// Host ports and limits.
    pub wishes: crate::cni::wishes::Wishes,
}
