//! The row of layout 1, and the way from it and to it.
#[cfg(not(feature = "former-flow-layout"))]
use super::{BALANCED, FlowValue, Row};
use super::{Count, Leg, Tuple};
use crate::{
    policy::RuleId,
    service::{BackendId, ServiceId},
};
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Layout 1 of a row of `FLOWS` and `HALFOPEN`: one count for both directions. Fields are as in [`super::FlowValue2`]. 152 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowValue1 {
    /// What the packet becomes.
    pub to: Tuple,
    /// Flags.
    pub flags: u16,
    /// Zero.
    pub flags_high: u16,
    /// By direction.
    pub legs: [Leg; 2],
    /// Backend.
    pub backend: BackendId,
    /// Its generation.
    pub backend_generation: u32,
    /// Low word of the epoch.
    pub epoch: u32,
    /// High word of the epoch; zero.
    pub epoch_high: u32,
    /// Service.
    pub service: ServiceId,
    /// Rules.
    pub rules: [RuleId; 2],
    /// What has been seen.
    pub seen: u16,
    /// Zero.
    pub seen_high: u16,
    /// Jiffies at the first packet.
    pub created: u64,
    /// Both directions.
    pub total: Count,
    /// Zero.
    pub reserved: [u64; 2],
}

impl FlowValue1 {
    /// The number of this layout.
    pub const LAYOUT: u32 = 1;

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn count_at(_direction: usize) -> usize {
        offset_of!(FlowValue1, total)
    }

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn count(&self, _direction: usize) -> &Count {
        &self.total
    }

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn set_count(&mut self, _direction: usize, count: Count) {
        self.total = count;
    }

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn add(&mut self, _direction: usize, now: u64, bytes: u64) {
        self.total = Count { last: now, packets: self.total.packets + 1, bytes: self.total.bytes + bytes };
    }

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn packets(&self) -> u64 {
        self.total.packets
    }

    /// As in [`super::FlowValue2`].
    #[inline(always)]
    pub const fn bytes(&self) -> u64 {
        self.total.bytes
    }
}

#[cfg(not(feature = "former-flow-layout"))]
impl Row for FlowValue1 {
    #[inline(always)]
    fn set(&mut self, value: &FlowValue) {
        self.to = value.to;
        self.flags = value.flags;
        self.flags_high = 0;
        self.legs = value.legs;
        self.backend = value.backend;
        self.backend_generation = value.backend_generation;
        self.epoch = value.epoch;
        self.epoch_high = 0;
        self.service = value.service;
        self.rules = value.rules;
        self.seen = value.seen;
        self.seen_high = 0;
        self.created = value.created;
        self.total.last = value.last();
        self.total.packets = value.packets();
        self.total.bytes = value.bytes();
        self.reserved = [0; 2];
    }

    /// What was counted is the original direction's from here on; both were used when the row was.
    #[inline(always)]
    fn tell(&self, value: &mut FlowValue) {
        value.legs = self.legs;
        value.epoch = self.epoch;
        value.flags = self.flags;
        if self.backend != 0 {
            value.flags |= BALANCED;
        }
        value.seen = self.seen;
        value.to = self.to;
        value.service = self.service;
        value.created = self.created;
        value.backend = self.backend;
        value.backend_generation = self.backend_generation;
        value.rules = self.rules;
        value.set_count(value.forward(), self.total);
        value.up.last = self.total.last;
        value.down.last = self.total.last;
        value.reserved = [0; 2];
    }
}

const _: () = assert!(size_of::<FlowValue1>() == 152);

#[cfg(all(test, not(feature = "former-flow-layout")))]
mod tests {
    use super::*;
    use crate::{
        Addr,
        flow::{FIN, INITIATOR_HIGH, NEXT_POD, PAIRED, PROMOTED, SEEN, TWIN_STACK, TWIN_TURN},
    };

    fn row(flags: u16, backend: BackendId) -> FlowValue {
        let leg = |device| Leg { device, target: 4, generation: 5, next: NEXT_POD, ..Leg::default() };
        let to = Tuple { src: Addr::v4(6), dst: Addr::v4(7), sport: 8, dport: 9 };
        FlowValue {
            legs: [leg(1), leg(2)],
            epoch: 3,
            flags,
            seen: SEEN | FIN << 1,
            up: Count { last: 10, packets: 11, bytes: 12 },
            to,
            service: 13,
            down: Count { last: 20, packets: 21, bytes: 22 },
            created: 9,
            backend,
            backend_generation: 14,
            rules: [15, 16],
            reserved: [0; 2],
        }
    }

    #[track_caller]
    fn check(flags: u16, backend: BackendId) {
        let value = row(flags, backend);
        let (mut former, mut back) = (FlowValue1::default(), FlowValue::default());
        former.set(&value);
        former.tell(&mut back);
        let total = Count { last: 20, packets: 32, bytes: 34 };
        assert_eq!((former.total, former.to, former.legs), (total, value.to, value.legs));
        let mut expected = value;
        expected.set_count(value.forward(), total);
        (expected.up.last, expected.down.last) = (20, 20);
        assert_eq!(back, expected);
    }

    #[test]
    fn a_row_goes_there_and_back() {
        check(PROMOTED, 0);
        check(PAIRED | INITIATOR_HIGH | TWIN_STACK | 3 << TWIN_TURN, 0);
        check(PAIRED | PROMOTED | BALANCED, 17);
    }

    #[test]
    fn a_backend_is_seen_without_its_flag() {
        let mut back = FlowValue::default();
        FlowValue1 { backend: 17, ..FlowValue1::default() }.tell(&mut back);
        assert_eq!((back.flags, back.backend), (BALANCED, 17));
    }

    #[test]
    fn words_are_where_layout_1_has_them() {
        let row = FlowValue1 { flags: 1, epoch: 2, seen: 3, created: 4, ..FlowValue1::default() };
        let bytes = row.as_bytes();
        assert_eq!([bytes[36], bytes[80], bytes[100], bytes[104]], [1, 2, 3, 4]);
        assert_eq!(
            [offset_of!(FlowValue1, legs), offset_of!(FlowValue1, total), offset_of!(FlowValue1, reserved)],
            [40, 112, 136]
        );
    }
}
