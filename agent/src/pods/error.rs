//! Why a pod's interface cannot be made, changed or removed. `cni` has the code of each.
use std::time::Duration;

use crate::{ipam::IpamError, load::LoadError, netlink::NetlinkError, netns::NetnsError};

/// Why a pod's interface cannot be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The ledger.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// What was asked cannot be granted.
    #[error(transparent)]
    Wish(#[from] crate::cni::wishes::WishError),
    /// A request to the kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Inside the pod.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The hooks.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pod's namespace has an interface of that name.
    #[error("the interface {0} exists in the pod's network namespace already: DEL must come before another ADD")]
    InterfaceExists(String),
    /// The namespace is the node's own.
    #[error("{0} is the node's own network namespace: a pod with hostNetwork needs no interface")]
    OwnNamespace(String),
    /// There was no ADD, or a DEL since.
    #[error("container {0} has no interface {1} of ours")]
    Unknown(String, String),
    /// Something of the pod's interface is missing.
    #[error("{0} of the pod's interface is missing")]
    Missing(&'static str),
    /// A DEL came in between.
    #[error("the interface was removed while its ADD waited")]
    Removed,
    /// The policy is not in force in time.
    #[error("the pod's policy is not in force after {0:?}: {1}")]
    NotInForce(Duration, &'static str),
    /// The node has no range yet.
    #[error("the Node has no spec.podCIDR yet: the node IPAM controller has not given it one")]
    NoRange,
}
