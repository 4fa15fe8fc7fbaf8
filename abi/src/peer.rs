//! `PEERS` and `CIDRS`: from an address to its peer class (design: peer classes instead of identities).
//!
//! `PEERS` is exact (every pod that a selector of this node's policies distinguishes), `CIDRS` is asked on a miss.
//! Both are read only for an isolated direction, on first packets.

/// A set of addresses that this node's rules cannot tell apart; a hash of what the addresses satisfy.
pub type Class = u32;

/// Any peer: rules without `from`/`to`. Never a value of `PEERS` or `CIDRS`; the second look-up of `POLICY`.
pub const ANY: Class = 0;
