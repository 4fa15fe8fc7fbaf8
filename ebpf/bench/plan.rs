//! What the harness does to the packet before each run: written by `bench`, read by `harness`, never shipped.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Words of the packet that are restored before each run: link, IPv6 and TCP header, and six bytes more.
pub(crate) const WORDS: usize = 10;

/// Every run is flow `next`.
pub(crate) const FIXED: u32 = 0;
/// Every run is a random one of the first `count` flows.
pub(crate) const RANDOM: u32 = 1;
/// Every run is the flow after the last run's.
pub(crate) const NEW: u32 = 2;

/// The one row of `PLAN`. 112 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Plan {
    /// The packet's first bytes.
    pub(crate) header: [u64; WORDS],
    /// [`FIXED`], [`RANDOM`] or [`NEW`].
    pub(crate) mode: u32,
    /// Flows to choose from.
    pub(crate) count: u32,
    /// The flow of the next run. A flow's number is its client's port and, from 65,536 on, more in the server's.
    pub(crate) next: u32,
    /// 1: the client's port is the packet's destination port.
    pub(crate) back: u32,
    /// The server's first port, host byte order.
    pub(crate) port: u32,
    /// Outer source address of an overlay packet, host byte order; 0 for others.
    pub(crate) tunnel_source: u32,
    /// Its VNI.
    pub(crate) vni: u32,
    /// 1: the packet is IPv6.
    pub(crate) v6: u32,
}

const _: () = assert!(size_of::<Plan>() == 112);
