//! Whether a flow's time is over. Which timeout a row goes by is `abi::timeout`'s; the agent's sweep goes by the same.
use crate::Tables;
use abi::{
    flow::FlowValue,
    timeout::{Timeout, of},
};

pub use abi::timeout::{DATAGRAM_PACKETS, DATAGRAM_PROMOTE};

/// A timeout of this node, in jiffies.
#[inline(always)]
pub fn jiffies(tables: &impl Tables, timeout: Timeout) -> u64 {
    let hz = u64::from(tables.setting(|s| &s.jiffies_per_second));
    u64::from(tables.setting(|s| &s.timeouts.0[timeout as usize])) * hz
}

/// Whether the row's time is over, by the given last packet.
#[inline(always)]
pub fn over(tables: &impl Tables, value: &FlowValue, proto: u8, last: u64, now: u64) -> bool {
    let hz = u64::from(tables.setting(|s| &s.jiffies_per_second));
    let seconds = of(value, proto, |timeout| tables.setting(|s| &s.timeouts.0[timeout as usize]));
    now.saturating_sub(last) > u64::from(seconds) * hz
}

/// Whether a SYN of this flow is not its first one: TCP waits a second for an answer (RFC 6298), networks double packets sooner.
#[inline(always)]
pub fn repeated(tables: &impl Tables, value: &FlowValue, now: u64) -> bool {
    now.saturating_sub(value.created) >= u64::from(tables.setting(|s| &s.jiffies_per_second)) / 2
}
