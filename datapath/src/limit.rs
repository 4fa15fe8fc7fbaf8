//! The egress limit of a pod: a token bucket, kept as the one time at which it would be full again.
//!
//! The last thing that may stop what a pod sends, on the established path and at the end of the slow one alike, so that
//! whatever is dropped for another reason costs nothing. It drops and never delays (there is no queue on this way), so
//! the bucket holds at least a whole segment of the pod's stack. Time is jiffies: a bucket is filled in their steps.
//! What a pod receives is limited by the queue on its device, which is none of the datapath's.
use crate::Tables;
use abi::{
    DropReason,
    pod::{EGRESS_LIMIT, NONE, PodId},
};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Two CPUs may want the same bucket at once; one that loses as often as this sends for nothing.
const TRIES: u32 = 4;

/// Takes a packet of this many bytes out of the bucket of the pod that sent it; nothing happens for other senders.
#[inline(always)]
pub fn spend(tables: &impl Tables, sender: PodId, bytes: u32, jiffies: u64) -> Result<(), DropReason> {
    if sender == NONE {
        return Ok(());
    }
    let Some(pod) = tables.pod(sender) else {
        return Ok(());
    };
    let [rate, depth] = pod.limit;
    let hertz = tables.setting(|s| &s.jiffies_per_second);
    if pod.flags & EGRESS_LIMIT == 0 || rate == 0 || hertz == 0 {
        return Ok(());
    }
    let now = jiffies.wrapping_mul(SECOND / u64::from(hertz));
    let cost = u64::from(bytes) * SECOND / rate;
    let latest = now.wrapping_add(depth);
    let mut tries = 0;
    while tries < TRIES {
        let full = tables.bucket(sender);
        let next = start(full, now, latest).wrapping_add(cost);
        if next > latest {
            return Err(DropReason::EgressLimit);
        }
        if tables.swap_bucket(sender, full, next) {
            return Ok(());
        }
        tries += 1;
    }
    Ok(())
}

/// The bucket's time. Full since long is full now; one that owes more than it can hold was left by another limit.
#[inline(always)]
fn start(full: u64, now: u64, latest: u64) -> u64 {
    if full < now || full > latest { now } else { full }
}
