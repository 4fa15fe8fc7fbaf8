//! Whether a flow's time is over. The constants are `abi::timeout`'s: the agent's sweep goes by the same.
use crate::Tables;
use abi::flow::FlowValue;

pub use abi::timeout::{
    DATAGRAM, DATAGRAM_ESTABLISHED, DATAGRAM_PROMOTE, TCP_CLOSED, TCP_ESTABLISHED, TCP_HALF_CLOSED, TCP_OPENING,
    seconds,
};

/// Whether the row's time is over, by the given last packet.
#[inline(always)]
pub fn over(tables: &impl Tables, value: &FlowValue, proto: u8, last: u64, now: u64) -> bool {
    let hz = u64::from(tables.setting(|s| &s.jiffies_per_second));
    now.saturating_sub(last) > seconds(value, proto) * hz
}
