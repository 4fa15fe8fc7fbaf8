//! `FLOWS` and `HALFOPEN`: the record of a flow, which carries its verdict (design section 2, conntrack).
use crate::Addr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of a flow: the two endpoints in order, so that an untranslated flow is one row for both directions.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowKey {
    /// The lower endpoint's address (compared as words in memory, then by port).
    pub low: Addr,
    /// The higher endpoint's address.
    pub high: Addr,
    /// Network byte order; for ICMP echo the identifier in both.
    pub low_port: u16,
    /// Network byte order.
    pub high_port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// Zero.
    pub pad: u8,
    /// Zero; the cluster, when there are several.
    pub zone: u16,
}

/// A row of `FLOWS` and `HALFOPEN`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue {
    /// Zero.
    pub reserved: [u64; 2],
}

const _: () = assert!(size_of::<FlowKey>() == 40);
