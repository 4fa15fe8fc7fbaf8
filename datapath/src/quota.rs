//! The share of `FLOWS` that one pod's flows may have, so that no pod can keep all others out of it.
//!
//! Asked only when a flow is promoted: a flow beyond the share goes on, half-open, where it can be evicted. Each row counts
//! against the pod that began its flow, or else the one that it goes to; the host's flows count against nobody.
use crate::Tables;
use abi::pod::{NONE, PodId};

/// Whether so many more rows are within the pod's share.
#[inline(always)]
pub fn has_room(tables: &impl Tables, owner: PodId, rows: u64) -> bool {
    let share = i64::from(tables.setting(|s| &s.flows_per_pod));
    share == 0 || owner == NONE || tables.pod_flows(owner) + rows as i64 <= share
}

/// Counts so many more rows.
#[inline(always)]
pub fn count(tables: &impl Tables, owner: PodId, rows: i64) {
    if owner != NONE {
        tables.add_pod_flows(owner, rows);
    }
}
