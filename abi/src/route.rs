//! `ROUTES` and `NODES`: from a prefix to the node that owns it, and how to reach that node.
use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Index into `NODES`; 0 is no node.
pub type NodeId = u32;

/// A row of `ROUTES` (LPM by [`crate::addr::Prefix`]). 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Route {
    /// The owner; 0 for ranges that no node owns.
    pub node: NodeId,
    /// [`NODE_ADDRESS`], [`SERVICE_RANGE`] or [`CLUSTER_RANGE`].
    pub flags: u32,
}

/// The prefix is an address of the node itself: node ports answer there, and what a pod sends to it keeps its source.
pub const NODE_ADDRESS: u32 = 1;
/// The Service range: what no row of `SERVICES` translates is dropped, never sent outside.
pub const SERVICE_RANGE: u32 = 2;
/// The cluster's pod range as a whole: what no node owns is dropped, never sent outside.
pub const CLUSTER_RANGE: u32 = 4;

/// A row of `NODES`. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Node {
    /// Outer address of the overlay; what comes from this node must have it as outer source.
    pub tunnel: Addr,
    /// Raised when the slot is reused or the tunnel address changes.
    pub generation: u32,
    /// [`LOCAL`], [`SPLITS`].
    pub flags: u32,
    /// Zero; key index of encrypted underlays.
    pub key: u32,
    /// Bytes from the network header on that fit the way there, outer headers taken off already, never fewer than 1,280;
    /// of [`LOCAL`] what the NIC carries. 0: nothing is known, and nothing is refused.
    pub mtu: u32,
}

/// This very node.
pub const LOCAL: u32 = 1;
/// What is larger than `mtu` and may be split can be handed to the overlay device: the kernel splits the outer packet, and
/// the other end puts it together again.
pub const SPLITS: u32 = 0x100;

const _: () = assert!(size_of::<Route>() == 8 && size_of::<Node>() == 32);
