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
    /// [`NODE_ADDRESS`], [`SERVICE_RANGE`], [`CLUSTER_RANGE`] or [`NOT_MASQUERADED`].
    pub flags: u32,
}

/// The prefix is an address of the node itself: node ports answer there, and what a pod sends to it keeps its source.
pub const NODE_ADDRESS: u32 = 1;
/// The Service range: what no row of `SERVICES` translates is dropped, never sent outside.
pub const SERVICE_RANGE: u32 = 2;
/// The cluster's pod range as a whole: what no node owns is dropped, never sent outside.
pub const CLUSTER_RANGE: u32 = 4;
/// Outside the cluster, and knows the way to pods: what a pod sends there keeps its source.
pub const NOT_MASQUERADED: u32 = 8;

/// A row of `NODES`. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Node {
    /// Outer address of the overlay; what comes from this node must have it as outer source.
    pub tunnel: Addr,
    /// Whom packets of IPv4 and of IPv6 go to without an outer header, where [`NATIVE`] says so: the node itself or a
    /// router.
    pub next: [Addr; 2],
    /// Raised when the slot is reused or the tunnel address changes.
    pub generation: u32,
    /// [`LOCAL`], [`SPLITS`], [`BY_DEVICE`], [`ADJACENT`], and by family [`NATIVE`], [`TAKES_NATIVE`] and [`SEGMENT`].
    pub flags: u32,
    /// Zero; key index of encrypted underlays.
    pub key: u32,
    /// Bytes from the network header on that fit the way there, [`OVERHEAD`] taken off already; of [`LOCAL`] what the NIC
    /// carries. 0: nothing is known, and nothing is refused. An underlay of less than [`LEAST_MTU`] and the overhead leaves
    /// less than a packet may have: see [`Node::overlay_mtu`].
    pub mtu: u32,
}

/// This very node.
pub const LOCAL: u32 = 1;
/// What goes to the node goes without an outer header: packets of IPv4, of IPv6.
pub const NATIVE: [u32; 2] = [2, 4];
/// What comes from the node without an outer header is expected.
pub const TAKES_NATIVE: [u32; 2] = [8, 16];
/// The node is on a segment with this one: `next` is its own address, and the link address is asked for.
pub const SEGMENT: [u32; 2] = [32, 64];
/// What is larger than `mtu` and may be split can be handed to the overlay device: the kernel splits the outer packet, and
/// the other end puts it together again.
pub const SPLITS: u32 = 0x100;
/// The node's tunnel address is not behind the NIC: the overlay device writes the outer header, whatever the back end.
pub const BY_DEVICE: u32 = 0x200;
/// The tunnel address is on a segment of this node's NIC: what the program writes an outer header to needs no look for a route.
pub const ADJACENT: u32 = 0x400;

/// Bytes that the overlay takes of the underlay's MTU, over IPv4 and over IPv6: the outer IP, UDP and VXLAN headers and the
/// inner link header.
pub const OVERHEAD: [u32; 2] = [50, 70];

/// IPv6's least MTU (RFC 8200 section 5): no packet of this size is refused, whatever its way, and nobody is told less.
pub const LEAST_MTU: u32 = 1_280;

impl Node {
    /// What fits towards the node behind an outer header; 0 if that is not known.
    #[inline(always)]
    pub const fn overlay_mtu(&self) -> u32 {
        if self.mtu != 0 && self.mtu < LEAST_MTU { LEAST_MTU } else { self.mtu }
    }

    /// What fits towards the node without an outer header, bytes from the network header on; 0 if that is not known.
    #[inline(always)]
    pub const fn bare_mtu(&self) -> u32 {
        let taken = if self.tunnel.is_v4() { OVERHEAD[0] } else { OVERHEAD[1] };
        if self.mtu == 0 { 0 } else { self.mtu + taken }
    }

    /// One of the flags by family, for a packet of that family.
    #[inline(always)]
    pub const fn says(&self, flags: [u32; 2], v4: bool) -> bool {
        self.flags & (if v4 { flags[0] } else { flags[1] }) != 0
    }

    /// Whom a packet of that family goes to without an outer header.
    #[inline(always)]
    pub const fn next(&self, v4: bool) -> Addr {
        if v4 { self.next[0] } else { self.next[1] }
    }
}

const _: () = assert!(size_of::<Route>() == 8 && size_of::<Node>() == 64);
