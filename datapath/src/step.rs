//! What a stage answers: a verdict with its edits, or the stage that goes on.
use abi::{Addr, flow::Tuple};

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
    /// Out by the NIC; the kernel finds the neighbour.
    Nic {
        /// Interface index.
        ifindex: u32,
    },
}

/// What changes in the packet's headers, applied once with the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edits {
    /// The new addresses and ports, if [`Edits::translate`].
    pub to: Tuple,
    /// Write `to`.
    pub translate: bool,
    /// Take one off the time to live.
    pub decrement: bool,
}

/// A verdict and its edits.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Where to.
    pub verdict: Verdict,
    /// With which changes.
    pub edits: Edits,
}

impl Outcome {
    /// On, untouched.
    #[inline(always)]
    pub fn pass() -> Outcome {
        Outcome { verdict: Verdict::Pass, edits: Edits { to: Tuple::default(), translate: false, decrement: false } }
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
}

/// The answer of a stage; its error is the drop.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Finished.
    Done(Outcome),
    /// Goes on there, with what it left in [`crate::State`].
    Slow(Stage),
}
