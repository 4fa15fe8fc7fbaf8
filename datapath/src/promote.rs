//! Half-open flows that have proven themselves move to `FLOWS`, where nothing evicts them.
use crate::{
    State, Tables,
    conntrack::twin_key,
    parse::{self, TCP},
    quota, timeout,
};
use abi::{
    event::Kept,
    flow::{FlowKey, FlowValue, PROMOTED, SEEN},
    timeout::closed,
};

/// Moves the flow of `state.key` into `FLOWS` once it has proven itself: TCP when the handshake is complete, others after
/// packets both ways over two seconds, or sixteen of them. If the table is full or the flow's pod has its share, it stays
/// where it can be evicted, and the last stage tells of it.
#[inline(always)]
pub fn promote(tables: &impl Tables, state: &mut State) {
    let key = state.key;
    if !copy(tables, &key, &mut state.value) {
        return;
    }
    state.value.flags |= PROMOTED;
    let rows = state.value.rows();
    let twin_key = twin_key(&state.value, state.packet.proto);
    if rows == 2 && !copy(tables, &twin_key, &mut state.twin) {
        return;
    }
    state.twin.flags |= PROMOTED;
    let came_back = if rows == 2 { state.twin.seen != 0 } else { answered(state.value.seen) };
    if !came_back {
        return;
    }
    let owner = state.value.owner();
    if !quota::has_room(tables, owner, rows) {
        state.kept = Kept::PodQuota as u32;
        return;
    }
    if rows == 2 && !tables.put_flow(&twin_key, &state.twin) {
        state.kept = Kept::TableFull as u32;
        return;
    }
    if !tables.put_flow(&key, &state.value) {
        if rows == 2 {
            tables.remove_flow(&twin_key);
        }
        state.kept = Kept::TableFull as u32;
        return;
    }
    quota::count(tables, owner, rows as i64);
    // Or they would be in the way of new flows: whoever is looked up is evicted after whoever is new.
    if rows == 2 {
        tables.remove_half_open(&twin_key);
    }
    tables.remove_half_open(&key);
}

/// Packets of both directions.
#[inline(always)]
fn answered(seen: u16) -> bool {
    seen & (SEEN | SEEN << 1) == SEEN | SEEN << 1
}

/// Copies a half-open row. Another CPU may evict it meanwhile and write another flow's in its place; then the key is met
/// somewhere else afterwards or nowhere.
#[inline(always)]
fn copy(tables: &impl Tables, key: &FlowKey, into: &mut FlowValue) -> bool {
    let Some(entry) = tables.half_open(key) else {
        return false;
    };
    *into = *entry;
    tables.half_open(key).is_some_and(|again| tables.same(&entry, &again))
}

/// The packet shows it of the flow of this row.
#[inline(always)]
pub fn proven(tables: &impl Tables, state: &State, value: &FlowValue, direction: usize) -> bool {
    let packet = &state.packet;
    if packet.proto == TCP {
        return !closed(value)
            && direction & 1 == value.forward()
            && packet.tcp & (parse::SYN | parse::RST | parse::ACK) == parse::ACK;
    }
    let hz = u64::from(tables.setting(|s| &s.jiffies_per_second));
    value.packets() >= timeout::DATAGRAM_PACKETS
        || state.now.saturating_sub(value.created) >= timeout::DATAGRAM_PROMOTE * hz
}
