//! `SERVICES`, `SLOTS` and `BACKENDS`: from a service address to one of its backends, without a loop.
//!
//! A service owns `count` consecutive slots from `first_slot`; each names a backend. A range is never rewritten: a new
//! range is filled, then the service's row points to it, and the old one is reused after a barrier.
use crate::{Addr, pod::PodId, route::NodeId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A service port, for attribution and affinity: a hash of namespace, name and port name.
pub type ServiceId = u32;
/// Index into `BACKENDS`; 0 is no backend.
pub type BackendId = u32;

/// Key of `SERVICES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceKey {
    /// The service's address; [`Addr::wildcard`] for a node port, which answers on every address of every node.
    pub addr: Addr,
    /// Network byte order.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// [`SCOPE_CLUSTER`], [`SCOPE_NODE_PORT`] or [`SCOPE_HOST_PORT`].
    pub scope: u8,
}

/// A cluster address.
pub const SCOPE_CLUSTER: u8 = 0;
/// A node port: asked when the destination is a node's address.
pub const SCOPE_NODE_PORT: u8 = 1;
/// A pod's host port at an address of its node, for whom the packet came to from outside or from another node. For pods of
/// this node the same row stands under [`SCOPE_CLUSTER`], so that they need no second look-up.
pub const SCOPE_HOST_PORT: u8 = 2;

/// A row of `SERVICES`. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Service {
    /// Which service port this is.
    pub service: ServiceId,
    /// Zero; traffic policies and affinity.
    pub flags: u32,
    /// First slot of the range.
    pub first_slot: u32,
    /// Slots in the range; 0: nobody serves, the flow is refused with `NoBackend`.
    pub count: u32,
    /// Seconds of client affinity; 0 is none.
    pub affinity: u32,
    /// Zero.
    pub reserved: [u32; 3],
}

/// A row of `BACKENDS`. 40 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Backend {
    /// Where it serves.
    pub addr: Addr,
    /// Network byte order; 0 in a free row.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// [`ALIVE`].
    pub flags: u8,
    /// Raised when the slot is reused or the backend is gone: flows that hold another one choose again.
    pub generation: u32,
    /// The pod, if it is one of this node ([`crate::pod::HOST`] for this node itself), else 0.
    pub pod: PodId,
    /// The node that it lives on; 0 if it is not in the cluster.
    pub node: NodeId,
    /// Zero.
    pub reserved: [u32; 2],
}

/// The row is in use.
pub const ALIVE: u8 = 1;

const _: () = assert!(size_of::<ServiceKey>() == 20 && size_of::<Service>() == 32 && size_of::<Backend>() == 40);
