//! What a stage answers: a verdict with its edits, or the stage that goes on.
use crate::{Packet, parse::KIND_ERROR};
use abi::{
    Addr,
    flow::{NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_POD, Tuple},
};

/// Where a packet goes.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On as if we were not there.
    Pass,
    /// Into a pod of this node.
    Pod {
        /// Host end of its veth.
        ifindex: u32,
        /// The pod's own MAC address.
        mac: [u8; 6],
    },
    /// To the host's stack by `weft_host`.
    Host,
    /// To another node by the overlay.
    Encap {
        /// Outer destination.
        tunnel: Addr,
        /// VNI.
        vni: u32,
    },
    /// Back to who sent it: the answer to what it asked, or why it cannot go on.
    Reply,
    /// Out by the NIC; the kernel finds the neighbour.
    Nic {
        /// Interface index.
        ifindex: u32,
    },
    /// Out by the NIC as it is, towards another node.
    Native {
        /// Whose link address it gets.
        next: Addr,
    },
}

/// What changes in the packet's headers, applied once with the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Edits {
    /// The new addresses and ports, if [`Edits::translate`].
    pub to: Tuple,
    /// Write `to`. In an ICMP error the quoted packet gets them, turned round, and so does the header, but for the
    /// source of an error that comes from a router on the way.
    pub translate: bool,
    /// Take one off the time to live.
    pub decrement: bool,
}

/// A verdict and its edits, flat: the fields that a verdict does not use are zero and not undefined, since the compiler
/// copies them before it asks which verdict it is, and the verifier refuses to see undefined registers copied. For the
/// same reason it is filled in by reference and never returned in a `Result`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// A `NEXT_…` of [`abi::flow`]; 0 passes, too.
    pub next: u8,
    /// Interface index of the pod's host end or of the NIC. With [`abi::DropReason::TooBig`] bytes from the network header on
    /// that would fit.
    pub ifindex: u32,
    /// The pod's own MAC address.
    pub mac: [u8; 6],
    /// The packet must go through the device: to a pod, since there is a queue on it; to another node, since that is not
    /// behind the NIC, or the packet is larger than the way's MTU and may be split, which only the overlay's device does.
    /// (One field for both: programs that log have no stack left.)
    pub queued: bool,
    /// Outer destination; of what leaves by the NIC its next hop, if that is not for the kernel to find.
    pub tunnel: Addr,
    /// The outer destination is its own next hop by the NIC.
    pub near: bool,
    /// VNI.
    pub vni: u32,
    /// The edits.
    pub edits: Edits,
}

impl Edits {
    /// The source address that the header gets.
    #[inline(always)]
    pub fn source(&self, packet: &Packet) -> Addr {
        if packet.kind == KIND_ERROR && packet.source != packet.tuple.src { packet.source } else { self.to.src }
    }
}

impl Outcome {
    /// The verdict alone.
    pub fn verdict(&self) -> Verdict {
        match self.next {
            NEXT_POD => Verdict::Pod { ifindex: self.ifindex, mac: self.mac },
            NEXT_HOST => Verdict::Host,
            NEXT_NODE => Verdict::Encap { tunnel: self.tunnel, vni: self.vni },
            NEXT_NIC if self.tunnel != Addr::ANY => Verdict::Native { next: self.tunnel },
            NEXT_NIC => Verdict::Nic { ifindex: self.ifindex },
            _ => Verdict::Pass,
        }
    }
}

/// The stages that are tail-called, in the order of [`abi::map::STAGES`].
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// [`crate::conntrack::resume`].
    Flow = 0,
    /// [`crate::hook::begin`]: admit, translate.
    New = 1,
    /// [`crate::policy::judge`].
    Policy = 2,
    /// [`crate::route::choose`].
    Route = 3,
    /// [`crate::record::keep`].
    Record = 4,
    /// [`crate::rewrite::finish`]: a program of its own, so that the verifier sees the ways out once, and not at the
    /// end of every way through the others.
    Finish = 5,
    /// [`crate::hook::read`]: the first of packets whose headers the hook program does not read to the end.
    Read = 6,
    /// [`crate::too_big::measure`]: a long packet goes on if it fits its way; else it is dropped, and its sender told why.
    TooBig = 7,
    /// The overlay's outer header comes off, and the rest goes on as `from_overlay`: the program's alone, since no model has
    /// bytes to take off. Before any other stage, and only where the back end `program` is chosen.
    Decapsulate = 8,
}

/// The answer of a stage; its error is the drop.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Finished: the outcome is filled in.
    Done,
    /// Goes on there, with what it left in [`crate::State`].
    Slow(Stage),
    /// Goes on at [`Stage::Flow`], and `FLOWS` has been asked in vain: only a hook program answers this.
    Unknown,
}
