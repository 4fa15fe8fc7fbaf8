//! `POLICY`: the compiled rules. One LPM look-up for the peer's class and one for any peer; the better precedence wins.
use crate::peer::Class;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A policy set: all pods with the same rules share one. Immutable; a hash of its rules. 0 is the empty set.
pub type SetId = u32;
/// A rule, for attribution: a hash of what made it. 0 is none.
pub type RuleId = u32;

/// What a pod receives.
pub const INGRESS: u8 = 0;
/// What a pod sends.
pub const EGRESS: u8 = 1;

/// Key of `POLICY`. The prefix covers the fields below in order; a rule for every protocol ends before `proto`, one for
/// every port before `port`, a port range is cut into prefixes of `port`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PolicyKey {
    /// Bits of what follows that count: [`BITS_ANY_PROTO`], [`BITS_ANY_PORT`], or up to [`BITS_FULL`].
    pub prefix_len: u32,
    /// The set of the judged pod.
    pub set: SetId,
    /// The peer's class, or [`crate::peer::ANY`].
    pub class: Class,
    /// [`INGRESS`] or [`EGRESS`], from the judged pod's view.
    pub direction: u8,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port, network byte order; 0 for ICMP.
    pub port: u16,
}

/// Set, class and direction count.
pub const BITS_ANY_PROTO: u32 = 72;
/// And the protocol.
pub const BITS_ANY_PORT: u32 = 80;
/// Everything counts.
pub const BITS_FULL: u32 = 96;

/// A row of `POLICY`. 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PolicyValue {
    /// [`ALLOW`] or [`DENY`].
    pub verdict: u8,
    /// Zero.
    pub pad: u8,
    /// Zero; port of the proxy that must see the flow.
    pub proxy_port: u16,
    /// Lower wins between the row of the class and the row of any peer; on a tie, deny wins.
    pub precedence: u32,
    /// The rule that made this row.
    pub rule: RuleId,
    /// Zero.
    pub reserved: u32,
}

/// The flow may pass.
pub const ALLOW: u8 = 1;
/// The flow is dropped.
pub const DENY: u8 = 2;

const _: () = assert!(size_of::<PolicyKey>() == 16 && size_of::<PolicyValue>() == 16);
