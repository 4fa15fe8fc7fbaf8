//! The second set of flow tables: of those in force while a start brings others, or of an earlier version that is to take over.
//!
//! Rows are written to both sets, and a flow that only the other knows is taken from there. The other's rows may be of
//! the former layout; every row goes through `Row`, by way of per-CPU room, since two of them fill most of the stack.
use crate::maps::{FLOWS, FORMER_FLOWS, FORMER_HALFOPEN, FORMER_ROOM, HALFOPEN, OTHER_FLOWS, OTHER_HALFOPEN, ROOM};
use abi::flow::{FlowKey, FlowValue, FormerValue, PAIRED, Row};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use datapath::conntrack::twin_key;

/// The other set, with rows of one layout.
pub struct Other<R: 'static> {
    flows: &'static HashMap<FlowKey, R>,
    half_open: &'static LruHashMap<FlowKey, R>,
    room: &'static PerCpuArray<R>,
}

/// Rows of this layout: what differs is the size of the tables.
#[inline(always)]
pub fn same() -> Other<FlowValue> {
    Other { flows: &OTHER_FLOWS, half_open: &OTHER_HALFOPEN, room: &ROOM }
}

/// Rows of the layout before.
#[inline(always)]
pub fn former() -> Other<FormerValue> {
    Other { flows: &FORMER_FLOWS, half_open: &FORMER_HALFOPEN, room: &FORMER_ROOM }
}

impl<R: Row> Other<R> {
    /// Takes both halves of a flow, if it is there.
    #[inline(always)]
    pub fn take_flow(&self, key: &FlowKey) {
        if let Some(value) = self.take_row(key)
            && value.flags & PAIRED != 0
        {
            self.take_row(&twin_key(value, key.proto));
        }
    }

    /// One row; what it says.
    #[inline(always)]
    fn take_row(&self, key: &FlowKey) -> Option<&'static FlowValue> {
        if let Some(row) = self.flows.get_ptr(key) {
            // SAFETY: rows stay readable until the program ends (RCU).
            let value = lay(&ROOM, |value| unsafe { &*row }.tell(value))?;
            let _ = FLOWS.insert(key, value, u64::from(BPF_NOEXIST));
            return Some(value);
        }
        let row = self.half_open.get_ptr(key)?;
        // SAFETY: as above.
        let value = lay(&ROOM, |value| unsafe { &*row }.tell(value))?;
        let _ = HALFOPEN.insert(key, value, u64::from(BPF_NOEXIST));
        Some(value)
    }

    /// Writes an established row. If the table is full, the flow is evictable there.
    #[inline(always)]
    pub fn put_flow(&self, key: &FlowKey, value: &FlowValue) {
        if let Some(row) = lay(self.room, |row| row.set(value)) {
            let _ = self.flows.insert(key, row, u64::from(BPF_ANY));
        }
    }

    /// Writes a half-open row.
    #[inline(always)]
    pub fn put_half_open(&self, key: &FlowKey, value: &FlowValue) {
        if let Some(row) = lay(self.room, |row| row.set(value)) {
            let _ = self.half_open.insert(key, row, u64::from(BPF_ANY));
        }
    }

    /// Reserves a reply key. One that a hook of the other set has reserved is taken, and its row is ours too from then on.
    #[inline(always)]
    pub fn reserve(&self, key: &FlowKey, value: &FlowValue) -> bool {
        let free = self.flows.get_ptr(key).is_none()
            && lay(self.room, |row| row.set(value))
                .is_some_and(|row| self.half_open.insert(key, row, u64::from(BPF_NOEXIST)).is_ok());
        if !free {
            self.take_row(key);
        }
        free
    }

    /// Deletes an established row.
    #[inline(always)]
    pub fn remove_flow(&self, key: &FlowKey) {
        let _ = self.flows.remove(key);
    }

    /// Deletes a half-open row.
    #[inline(always)]
    pub fn remove_half_open(&self, key: &FlowKey) {
        let _ = self.half_open.remove(key);
    }
}

/// Writes a row where a helper can read it: this CPU's own room, until the next row is written there.
#[inline(always)]
fn lay<R>(room: &'static PerCpuArray<R>, write: impl FnOnce(&mut R)) -> Option<&'static R> {
    let slot = room.get_ptr_mut(0)?;
    // SAFETY: nobody holds a reference to the row that was there.
    unsafe {
        write(&mut *slot);
        Some(&*slot)
    }
}
