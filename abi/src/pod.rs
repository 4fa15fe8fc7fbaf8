//! `PODS` and `POD`: from an address to a pod of this node, and what the datapath must know of that pod.
//!
//! Only pods of this node are here; [`HOST`] is the node itself. The agent is the only writer.
use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Index into `POD`. Slots are read back from the pinned map on start and reused with a new generation.
pub type PodId = u32;

/// No pod of this node.
pub const NONE: PodId = 0;
/// The node itself: every address of the host, and host-network pods with it.
pub const HOST: PodId = 1;

/// A row of `POD`. 88 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Pod {
    /// The pod's IPv4 address (mapped), or [`Addr::ANY`].
    pub addr4: Addr,
    /// The pod's IPv6 address, or [`Addr::ANY`].
    pub addr6: Addr,
    /// The host end of the pod's veth in the node's namespace; for [`HOST`] that of `weft_host`.
    pub ifindex: u32,
    /// Raised when the slot is reused, when the pod's rules change, and when an address moves between classes that
    /// these rules distinguish: flows that hold another one are judged anew.
    pub generation: u32,
    /// The policy set in force, by the low bit of the epoch.
    pub policy_set: [u32; 2],
    /// [`ISOLATED_INGRESS`], [`ISOLATED_EGRESS`] and [`PEERS_NAMED`], by the low bit of the epoch.
    pub isolated: [u8; 2],
    /// MAC address of the pod's own end.
    pub mac: [u8; 6],
    /// [`READY`] and later flags.
    pub flags: u32,
    /// With [`QUEUED`]: bytes from the network header on that the device takes out of its queue; 0 if nothing is known.
    pub mtu: u32,
    /// With [`EGRESS_LIMIT`]: bytes per second, and how many nanoseconds of sending may be ahead of time. Else zero.
    pub limit: [u64; 2],
    /// Zero.
    pub reserved: u64,
}

impl Pod {
    /// The pod's address of the family that `like` is of.
    #[inline(always)]
    pub const fn addr(&self, like: &Addr) -> Addr {
        if like.is_v4() { self.addr4 } else { self.addr6 }
    }
}

/// A policy selects the pod for ingress: what no rule allows is dropped.
pub const ISOLATED_INGRESS: u8 = 1;
/// The same for egress.
pub const ISOLATED_EGRESS: u8 = 2;

/// Isolated that way, and every rule of the set names its peers: there is no row of any peer to look for. By direction
/// ([`crate::policy::INGRESS`], [`crate::policy::EGRESS`]).
pub const PEERS_NAMED: [u8; 2] = [4, 8];

/// The pod's policy is in force; until then its hooks drop with `PodNotReady`.
pub const READY: u32 = 1;
/// The pod's device has a queue (a limit, or somebody else's): packets go through it and not straight to the peer.
pub const QUEUED: u32 = 2;
/// What the pod sends is limited by `Pod::limit`.
pub const EGRESS_LIMIT: u32 = 4;

const _: () = assert!(size_of::<Pod>() == 88);
