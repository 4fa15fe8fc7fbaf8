//! `FLOWS` and `HALFOPEN`: the record of a flow, which carries its verdict (design section 2, conntrack).
//!
//! An untranslated flow is one row for both directions. A translated flow is two rows, a *half* each, complete for its
//! direction; the other half's key is the half's rewritten tuple. Both maps have the same rows. New fields come out of
//! `reserved`; what does not fit there is another layout (`row`).
use crate::{
    Addr,
    pod::{NONE, PodId},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod former;
mod row;

pub use former::FlowValue1;
pub use row::{Count, FlowValue2, Row};

/// A row of `FLOWS` and `HALFOPEN`.
#[cfg(not(feature = "former-flow-layout"))]
pub type FlowValue = FlowValue2;
/// A row of `FLOWS` and `HALFOPEN`, as the version before this layout has it.
#[cfg(feature = "former-flow-layout")]
pub type FlowValue = FlowValue1;

/// A row of the layout before, if there was one.
pub type FormerValue = FlowValue1;

/// Layout of [`FlowValue`]. A version that must change the row raises it, keeps the row of before as a type of its own
/// ([`FlowValue1`]), and converts by [`Row`]: there is no other way for a flow between two versions.
pub const LAYOUT: u32 = FlowValue::LAYOUT;
/// The layout that flows can come from and be handed over to; 0 if there is none.
pub const FORMER: u32 = LAYOUT - 1;

/// Addresses and ports as they stand in a packet of one direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tuple {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Network byte order; for ICMP echo the identifier in both ports.
    pub sport: u16,
    /// Network byte order.
    pub dport: u16,
}

impl Tuple {
    /// The same flow seen from the other end.
    #[inline(always)]
    pub const fn reversed(&self) -> Tuple {
        Tuple { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport }
    }

    /// True if the source is the lower endpoint.
    #[inline(always)]
    const fn ascending(&self) -> bool {
        let (a, b) = (&self.src.0, &self.dst.0);
        if a[3] != b[3] {
            return a[3] < b[3];
        }
        if a[2] != b[2] {
            return a[2] < b[2];
        }
        if a[1] != b[1] {
            return a[1] < b[1];
        }
        if a[0] != b[0] {
            return a[0] < b[0];
        }
        self.sport <= self.dport
    }

    /// The flow's key and this packet's direction in it: 0 from the lower to the higher endpoint, else 1.
    #[inline(always)]
    pub const fn key(&self, proto: u8, side: u8) -> (FlowKey, usize) {
        let (t, direction) = if self.ascending() { (*self, 0) } else { (self.reversed(), 1) };
        let key = FlowKey { low: t.src, high: t.dst, low_port: t.sport, high_port: t.dport, proto, side, zone: 0 };
        (key, direction)
    }
}

/// Key of a flow: the two endpoints in order, so that an untranslated flow is one row for both directions.
#[repr(C)]
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlowKey {
    /// The lower endpoint's address (compared as words in memory, last word first, then by port).
    pub low: Addr,
    /// The higher endpoint's address.
    pub high: Addr,
    /// Network byte order; for ICMP echo the identifier in both.
    pub low_port: u16,
    /// Network byte order.
    pub high_port: u16,
    /// IP protocol number.
    pub proto: u8,
    /// [`SIDE_WIRE`] or [`SIDE_STACK`], and how many turns of [`SIDE_TURN`].
    pub side: u8,
    /// Zero; the cluster, when there are several.
    pub zone: u16,
}

/// Packets seen where they come in.
pub const SIDE_WIRE: u8 = 0;
/// Packets that the host's own stack sends out by the NIC. A key of its own, since a pod's masqueraded flow may hold
/// the same addresses and ports on the wire.
pub const SIDE_STACK: u8 = 1;
/// Added to the side once for each live flow that has the same addresses and ports and was there before: packets of a client
/// outside that other nodes forward to one pod, from one port, look alike, and so does what a pod sends to a backend that
/// it reaches through a service too. Such a flow is translated, to a source port of its own.
pub const SIDE_TURN: u8 = 2;
/// So many flows may come to one key after the first.
pub const TURNS: u32 = 3;

impl FlowKey {
    /// The endpoints as a tuple of the given direction.
    pub const fn tuple(&self, direction: usize) -> Tuple {
        let up = Tuple { src: self.low, dst: self.high, sport: self.low_port, dport: self.high_port };
        if direction == 0 { up } else { up.reversed() }
    }
}

/// What happens to packets of one direction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Leg {
    /// The device that the packets must come by (interface index, or with [`STACK`]); 0 if this row does not serve the
    /// direction, and the rest only says who is there.
    pub device: u32,
    /// By `next`: pod id, node id, or the interface index of the NIC.
    pub target: u32,
    /// The generation of the pod or node.
    pub generation: u32,
    /// [`NEXT_POD`] and so on.
    pub next: u8,
    /// [`DECREMENT`].
    pub flags: u8,
    /// VNI of the overlay, for [`NEXT_NODE`].
    pub vni: u16,
}

/// Bit of [`Leg::device`]: sent by the host's stack through that device, not received by it.
pub const STACK: u32 = 1 << 31;

/// To a pod of this node.
pub const NEXT_POD: u8 = 1;
/// To another node by the overlay.
pub const NEXT_NODE: u8 = 2;
/// To the host's stack by `weft_host`.
pub const NEXT_HOST: u8 = 3;
/// Out by the NIC.
pub const NEXT_NIC: u8 = 4;
/// On to where it was going: the host's stack on the way in, the wire on the way out.
pub const NEXT_PASS: u8 = 5;

/// The node acts as a router: the time to live goes down.
pub const DECREMENT: u8 = 1;

/// This row is one half of a translated flow: it serves one direction and rewrites to `to`.
pub const PAIRED: u16 = 1;
/// The flow's first packet went from the higher to the lower endpoint: direction 1 is the original one.
pub const INITIATOR_HIGH: u16 = 2;
/// The other half's key has [`SIDE_STACK`].
pub const TWIN_STACK: u16 = 4;
/// The row is (also) in `FLOWS`.
pub const PROMOTED: u16 = 8;
/// Two bits: the turns in the side of the other half's key, `turn << TWIN_TURN`.
pub const TWIN_TURN: u16 = 4;
/// A backend was chosen: [`FlowValue`]'s `backend` and its generation say which.
pub const BALANCED: u16 = 64;

/// A packet of direction 0; `<< 1` for direction 1.
pub const SEEN: u16 = 1;
/// A TCP FIN of direction 0; `<< 1` for direction 1.
pub const FIN: u16 = 4;
/// A TCP RST of direction 0; `<< 1` for direction 1.
pub const RST: u16 = 16;

impl FlowValue {
    /// The flow's original direction, as an index of `legs`.
    #[inline(always)]
    pub const fn forward(&self) -> usize {
        (self.flags & INITIATOR_HIGH != 0) as usize
    }

    /// The side of the other half's key, if [`PAIRED`].
    #[inline(always)]
    pub const fn twin_side(&self) -> u8 {
        let side = if self.flags & TWIN_STACK == 0 { SIDE_WIRE } else { SIDE_STACK };
        side + (self.flags >> TWIN_TURN & TURNS as u16) as u8 * SIDE_TURN
    }

    /// The pod of this node whose quota the row counts against: the one that began the flow, else the one that it goes to.
    #[inline(always)]
    pub const fn owner(&self) -> PodId {
        let (there, back) = (&self.legs[self.forward() & 1], &self.legs[1 - (self.forward() & 1)]);
        if back.next == NEXT_POD {
            back.target
        } else if there.next == NEXT_POD {
            there.target
        } else {
            NONE
        }
    }

    /// Jiffies at the last packet of either direction.
    #[inline(always)]
    pub const fn last(&self) -> u64 {
        let (one, other) = (self.count(0).last, self.count(1).last);
        if one > other { one } else { other }
    }

    /// Rows of a flow table that the flow has: two if it is translated.
    #[inline(always)]
    pub const fn rows(&self) -> u64 {
        1 + (self.flags & PAIRED != 0) as u64
    }
}

const _: () = assert!(size_of::<Tuple>() == 36 && size_of::<FlowKey>() == 40 && size_of::<Leg>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: ([u8; 4], u16), b: ([u8; 4], u16)) {
        let tuple = Tuple { src: Addr::from_octets(a.0), dst: Addr::from_octets(b.0), sport: a.1, dport: b.1 };
        let (key, direction) = tuple.key(6, SIDE_WIRE);
        let (back, other) = tuple.reversed().key(6, SIDE_WIRE);
        assert_eq!(key, back);
        assert_eq!(key.tuple(direction), tuple);
        if a != b {
            assert_eq!(direction + other, 1);
        }
    }

    #[test]
    fn both_directions_have_one_key() {
        check(([10, 0, 0, 1], 80), ([10, 0, 0, 2], 1234));
        check(([10, 0, 0, 2], 80), ([10, 0, 0, 1], 1234));
        check(([10, 0, 0, 1], 80), ([10, 0, 0, 1], 1234));
        check(([10, 0, 0, 1], 9), ([10, 0, 0, 1], 9));
    }
}
