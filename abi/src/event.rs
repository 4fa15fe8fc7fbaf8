//! `EVENTS` (ring buffer) and `COUNTERS` (per CPU): what the datapath tells user space.
use crate::{Addr, pod::PodId, policy::RuleId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A dropped packet.
pub const KIND_DROP: u8 = 1;
/// A new flow was recorded.
pub const KIND_NEW_FLOW: u8 = 2;

/// A packet of a flow that has proven itself and is kept half-open all the same; `reason` is a [`Kept`].
pub const KIND_KEPT: u8 = 3;

/// Why a flow that has proven itself does not move to `FLOWS`: it goes on where it can be evicted. No drop.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kept {
    /// `FLOWS` is full.
    TableFull = 1,
    /// The flows of its pod have their share of `FLOWS` ([`crate::config::Settings::flows_per_pod`]).
    PodQuota = 2,
}

impl Kept {
    /// Each, by number.
    pub const ALL: [Kept; 2] = [Kept::TableFull, Kept::PodQuota];

    /// The metric label and the word in `weft monitor`.
    pub const fn label(self) -> &'static str {
        match self {
            Kept::TableFull => "table_full",
            Kept::PodQuota => "pod_quota",
        }
    }

    /// One sentence for people.
    pub const fn text(self) -> &'static str {
        match self {
            Kept::TableFull => "The table of established flows is full: the flow goes on, but others may displace it.",
            Kept::PodQuota => {
                "The pod has as many established flows as --flows-per-pod allows: the flow goes on, but others may displace it."
            }
        }
    }

    /// From the number in an event.
    pub const fn from_number(number: u8) -> Option<Kept> {
        match number {
            1 => Some(Kept::TableFull),
            2 => Some(Kept::PodQuota),
            _ => None,
        }
    }

    /// The row of `COUNTERS` that counts it in the place of a drop reason: from the last one down.
    pub const fn counted(self) -> u8 {
        (crate::verdict::REASONS - self as u32) as u8
    }
}

/// Which program speaks; also an index of `COUNTERS`.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// What a pod sends.
    FromPod = 0,
    /// What a pod receives from the host's stack.
    ToPod = 1,
    /// What the host sends to service and pod ranges.
    FromHost = 2,
    /// What comes out of the overlay device.
    FromOverlay = 3,
    /// What the NIC receives.
    FromNetdev = 4,
    /// What leaves by the NIC.
    ToNetdev = 5,
}

impl Hook {
    /// Every hook, by number.
    pub const ALL: [Hook; 6] =
        [Hook::FromPod, Hook::ToPod, Hook::FromHost, Hook::FromOverlay, Hook::FromNetdev, Hook::ToNetdev];

    /// The program's and the file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::FromPod => "from_pod",
            Hook::ToPod => "to_pod",
            Hook::FromHost => "from_host",
            Hook::FromOverlay => "from_overlay",
            Hook::FromNetdev => "from_netdev",
            Hook::ToNetdev => "to_netdev",
        }
    }
}

/// Hooks, rounded up, in one row of `COUNTERS`.
pub const HOOKS: u32 = 8;

/// One record of `EVENTS`. 80 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// [`KIND_DROP`], [`KIND_NEW_FLOW`] or [`KIND_KEPT`].
    pub kind: u8,
    /// A [`Hook`].
    pub hook: u8,
    /// A [`crate::DropReason`], a [`Kept`], or 0.
    pub reason: u8,
    /// IP protocol number.
    pub proto: u8,
    /// The device that the packet came by.
    pub ifindex: u32,
    /// As in the packet.
    pub src: Addr,
    /// As in the packet.
    pub dst: Addr,
    /// Network byte order; for ICMP echo the identifier.
    pub sport: u16,
    /// Network byte order.
    pub dport: u16,
    /// The sending pod of this node, or 0.
    pub src_pod: PodId,
    /// The receiving pod of this node, or 0.
    pub dst_pod: PodId,
    /// The rule that decided; for a default deny the policy set.
    pub rule: RuleId,
    /// Destination after translation; equal to `dst` if there is none.
    pub backend: Addr,
    /// Network byte order.
    pub backend_port: u16,
    /// Zero.
    pub pad: u16,
    /// Bytes of the packet, link header included.
    pub len: u32,
}

/// A row of `COUNTERS`, per CPU, indexed by [`counter`].
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, link header included.
    pub bytes: u64,
}

/// Index of the drops of a reason at a hook; reason 0 counts what passed.
#[inline(always)]
pub const fn counter(reason: u8, hook: Hook) -> u32 {
    reason as u32 * HOOKS + hook as u32
}

const _: () = assert!(size_of::<Event>() == 80 && size_of::<Counter>() == 16);
