//! `FRAGS`: what the first fragment of a packet says for the later ones, which have no transport header.
use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `FRAGS`: the packet that is in pieces, and by where it came, so that nobody speaks for another's. 44 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentKey {
    /// Source, as in the packet.
    pub src: Addr,
    /// Destination, as in the packet.
    pub dst: Addr,
    /// Identification as it lies in the header (16 bits in IPv4, 32 in IPv6).
    pub id: u32,
    /// The device, as flows name it.
    pub device: u32,
    /// IP protocol number of the transport.
    pub proto: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// A row of `FRAGS`. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Fragment {
    /// Jiffies at the first fragment.
    pub created: u64,
    /// Network byte order; for ICMP echo the identifier in both.
    pub sport: u16,
    /// Network byte order.
    pub dport: u16,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<FragmentKey>() == 44 && size_of::<Fragment>() == 16);
