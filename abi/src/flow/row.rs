//! The row of a flow, and how a row of another layout becomes one.
use super::{FlowKey, FlowValue, Leg, Tuple};
use crate::{
    policy::RuleId,
    service::{BackendId, ServiceId},
};
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What has passed in one direction. Written in place.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Count {
    /// Jiffies at the last packet.
    pub last: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes, link header included.
    pub bytes: u64,
}

/// Layout 2 of a row of `FLOWS` and `HALFOPEN`. 168 bytes.
///
/// Both directions of an untranslated flow are one row, and often two CPUs': what every packet reads lies in one cache line
/// that nobody writes once the flow is established, and each direction's count in a line of its own. What lies beside a
/// count is read by packets of that direction, by those of translated flows (whose halves serve one direction each), or
/// seldom. The kernel puts 48 bytes and the key before the value, so the lines end at the bytes 40, 104 and 168.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue2 {
    /// By direction as [`Tuple::key`] gives it. The leg of the way back leads to the initiator: source and destination
    /// pod of the flow, with their generations, are the targets of the two legs.
    pub legs: [Leg; 2],
    /// The policy epoch that it was judged under, its low word.
    pub epoch: u32,
    /// [`super::PAIRED`], [`super::INITIATOR_HIGH`], [`super::TWIN_STACK`], [`super::PROMOTED`], [`super::TWIN_TURN`],
    /// [`super::BALANCED`].
    pub flags: u16,
    /// What has been seen: [`super::SEEN`], [`super::FIN`], [`super::RST`] shifted by direction. Written in place.
    pub seen: u16,
    /// Direction 0.
    pub up: Count,
    /// What the packet becomes, if [`super::PAIRED`].
    pub to: Tuple,
    /// The service that was asked, or 0.
    pub service: ServiceId,
    /// Direction 1.
    pub down: Count,
    /// Jiffies at the first packet.
    pub created: u64,
    /// The service's backend that was chosen, or 0.
    pub backend: BackendId,
    /// Its generation then.
    pub backend_generation: u32,
    /// The rules that allowed it: egress of the source, ingress of the destination; 0 where nothing isolates.
    pub rules: [RuleId; 2],
    /// Zero.
    pub reserved: [u64; 2],
}

impl FlowValue2 {
    /// The number of this layout.
    pub const LAYOUT: u32 = 2;
    const STRIDE: usize = offset_of!(FlowValue2, down) - offset_of!(FlowValue2, up);

    /// Where a direction's [`Count`] begins, in bytes.
    #[inline(always)]
    pub const fn count_at(direction: usize) -> usize {
        offset_of!(FlowValue2, up) + (direction & 1) * Self::STRIDE
    }

    /// The count of a direction.
    #[inline(always)]
    pub const fn count(&self, direction: usize) -> &Count {
        if direction & 1 == 0 { &self.up } else { &self.down }
    }

    /// Begins to count anew: a flow whose last packet went in this direction.
    #[inline(always)]
    pub const fn set_count(&mut self, direction: usize, count: Count) {
        let none = Count { last: 0, packets: 0, bytes: 0 };
        (self.up, self.down) = if direction & 1 == 0 { (count, none) } else { (none, count) };
    }

    /// A packet of a direction.
    #[inline(always)]
    pub const fn add(&mut self, direction: usize, now: u64, bytes: u64) {
        let count = if direction & 1 == 0 { &mut self.up } else { &mut self.down };
        count.last = now;
        count.packets += 1;
        count.bytes += bytes;
    }

    /// Packets, both directions that this row serves.
    #[inline(always)]
    pub const fn packets(&self) -> u64 {
        self.up.packets + self.down.packets
    }

    /// Bytes of these packets.
    #[inline(always)]
    pub const fn bytes(&self) -> u64 {
        self.up.bytes + self.down.bytes
    }
}

/// A row of a flow table, of whatever layout. Rows are written where they are to lie: the datapath has no room on its stack.
pub trait Row: FromBytes + IntoBytes + Immutable {
    /// Becomes what this version's row says.
    fn set(&mut self, value: &FlowValue);
    /// Writes what it says into this version's row.
    fn tell(&self, value: &mut FlowValue);
}

impl Row for FlowValue {
    #[inline(always)]
    fn set(&mut self, value: &FlowValue) {
        *self = *value;
    }

    #[inline(always)]
    fn tell(&self, value: &mut FlowValue) {
        *value = *self;
    }
}

/// What the kernel's hash tables put before the key.
const BEFORE: usize = 48;
/// Of the processors that this is for.
const LINE: usize = 64;

const _: () = assert!(size_of::<FlowValue2>() == 168);
const _: () = {
    let first = BEFORE + size_of::<FlowKey>();
    assert!((first + size_of::<FlowValue2>()).is_multiple_of(LINE), "rows begin where lines do");
    assert!((first + offset_of!(FlowValue2, up)).is_multiple_of(LINE) && FlowValue2::STRIDE == LINE);
};
