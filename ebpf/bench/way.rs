//! Where the bare redirect sends a packet: written by `bench`, read by `bare`, never shipped.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Rows.
pub(crate) const WAYS: u32 = 256;
/// Straight into the namespace behind the device.
pub(crate) const PEER: u32 = 1;
/// Out by the device.
pub(crate) const DEVICE: u32 = 2;
/// Out by the collect-metadata VXLAN device.
pub(crate) const TUNNEL: u32 = 3;

/// A row of `BARE`. 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Way {
    /// [`PEER`], [`DEVICE`] or [`TUNNEL`]; 0 drops.
    pub(crate) kind: u32,
    /// Interface index.
    pub(crate) ifindex: u32,
    /// Outer destination, host byte order.
    pub(crate) remote: u32,
    /// New destination MAC.
    pub(crate) to: [u16; 3],
    /// New source MAC.
    pub(crate) from: [u16; 3],
}

const _: () = assert!(size_of::<Way>() == 24);
