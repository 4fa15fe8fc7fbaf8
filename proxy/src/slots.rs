//! Places in the arrays for what [`crate::compile`] wants: `BACKENDS`, `SLOTS` and the rows of `SERVICES`.
//!
//! [`Slots`] is what the pinned maps hold; [`assign`] makes from it and the wanted content the next state. A backend
//! keeps its index as long as it lives. When it is gone its row is freed with a higher generation, so that flows that
//! hold the index choose again. A slot range is never rewritten: a service whose backends change gets a new range
//! (shared by rows with the same backends), its row then points there, and the old range is free in the next round,
//! which must start after a barrier.
use std::collections::{BTreeMap, BTreeSet};

use abi::{
    pod::PodId,
    route::NodeId,
    service::{ALIVE, Backend, BackendId, Service, ServiceKey},
};

use crate::{BackendAddr, Output};

/// What the three maps hold; free rows that were never used are absent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// `BACKENDS`, free rows with a generation included.
    pub backends: BTreeMap<BackendId, Backend>,
    /// `SLOTS`, as far as ranges of `services` reach.
    pub slots: BTreeMap<u32, BackendId>,
    /// `SERVICES`.
    pub services: BTreeMap<ServiceKey, Service>,
}

/// How large the arrays are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Rows of `BACKENDS`; row 0 is never used.
    pub backends: u32,
    /// Rows of `SLOTS`.
    pub slots: u32,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { backends: abi::map::BACKENDS.max_entries, slots: abi::map::SLOTS.max_entries }
    }
}

/// What did not fit. Service rows keep their old backends then, new ones have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Overflow {
    /// Backends without a row.
    pub backends: usize,
    /// Service rows without a range.
    pub ranges: usize,
}

impl Slots {
    /// Keeps of raw map contents what is in use: array maps dump all their rows.
    pub fn from_maps(
        backends: impl IntoIterator<Item = (BackendId, Backend)>,
        slots: impl Fn(u32) -> Option<BackendId>,
        services: impl IntoIterator<Item = (ServiceKey, Service)>,
    ) -> Slots {
        let services: BTreeMap<_, _> = services.into_iter().collect();
        let used = services.values().flat_map(|s| s.first_slot..s.first_slot + s.count);
        Slots {
            backends: backends.into_iter().filter(|(id, row)| *id != 0 && *row != Backend::default()).collect(),
            slots: used.filter_map(|slot| Some((slot, slots(slot)?))).collect(),
            services,
        }
    }
}

/// The next state. `place` tells a backend's pod (of this node) and node from its address and node name.
pub fn assign(
    have: &Slots,
    want: &Output,
    capacity: Capacity,
    place: impl Fn(&BackendAddr, Option<&str>) -> (PodId, NodeId),
) -> (Slots, Overflow) {
    let mut overflow = Overflow::default();
    let (backends, ids) = assign_backends(have, want, capacity.backends, &place);
    overflow.backends = want.backends.len() - ids.len();
    let mut ranges = Ranges::new(have, capacity.slots);
    let mut next = Slots { backends, ..Slots::default() };
    for (key, entry) in &want.services {
        let list: Vec<BackendId> = entry.backends.iter().filter_map(|backend| ids.get(backend).copied()).collect();
        let old = have.services.get(key);
        let range = match ranges.place(&list, old) {
            Some(first) => (first, list.len() as u32),
            None => {
                overflow.ranges += 1;
                old.map_or((0, 0), |old| (old.first_slot, old.count))
            }
        };
        let (first_slot, count) = range;
        let (service, flags, affinity) = (entry.service, entry.flags, entry.affinity);
        next.services.insert(*key, Service { service, flags, first_slot, count, affinity, reserved: [0; 3] });
    }
    next.slots = ranges.rows(next.services.values());
    (next, overflow)
}

type Ids = BTreeMap<BackendAddr, BackendId>;

fn assign_backends(
    have: &Slots,
    want: &Output,
    capacity: u32,
    place: &impl Fn(&BackendAddr, Option<&str>) -> (PodId, NodeId),
) -> (BTreeMap<BackendId, Backend>, Ids) {
    let mut rows = BTreeMap::new();
    let mut ids = Ids::new();
    for (id, row) in &have.backends {
        let backend = address(row);
        let kept = row.flags & ALIVE != 0 && want.backends.contains_key(&backend) && !ids.contains_key(&backend);
        if kept {
            ids.insert(backend, *id);
        }
        // A row that is freed now is not given out in the same round: its generation must be seen first.
        let freed = Backend { generation: row.generation.wrapping_add(1), ..Backend::default() };
        rows.insert(*id, if kept || row.flags & ALIVE == 0 { *row } else { freed });
    }
    let mut free = (1..capacity).filter(|id| have.backends.get(id).is_none_or(|row| row.flags & ALIVE == 0));
    for (backend, node) in &want.backends {
        let Some(id) = ids.get(backend).copied().or_else(|| free.next()) else { continue };
        ids.insert(*backend, id);
        let generation = rows.get(&id).map_or(1, |row: &Backend| row.generation.max(1));
        let (pod, node) = place(backend, node.as_deref());
        let BackendAddr { addr, port, proto } = *backend;
        let row = Backend { addr, port: port.to_be(), proto, flags: ALIVE, generation, pod, node, reserved: [0; 2] };
        rows.insert(id, row);
    }
    (rows, ids)
}

fn address(row: &Backend) -> BackendAddr {
    BackendAddr { addr: row.addr, port: u16::from_be(row.port), proto: row.proto }
}

/// Ranges of `SLOTS`, by content.
struct Ranges {
    /// First slot by the backends that the range lists.
    by_content: BTreeMap<Vec<BackendId>, u32>,
    /// Slots that this round may not write: those of the old state and those given out.
    used: BTreeSet<u32>,
    rows: BTreeMap<u32, BackendId>,
    capacity: u32,
    /// Where the search for room starts.
    cursor: u32,
}

impl Ranges {
    fn new(have: &Slots, capacity: u32) -> Ranges {
        let mut by_content = BTreeMap::new();
        let mut used = BTreeSet::new();
        for service in have.services.values() {
            let range = service.first_slot..service.first_slot + service.count;
            let content: Option<Vec<BackendId>> = range.clone().map(|slot| have.slots.get(&slot).copied()).collect();
            used.extend(range);
            if let Some(content) = content {
                let first = by_content.entry(content).or_insert(service.first_slot);
                *first = service.first_slot.min(*first);
            }
        }
        Ranges { by_content, used, rows: have.slots.clone(), capacity, cursor: 0 }
    }

    /// The first slot of a range with exactly this content; absent if there is no room.
    fn place(&mut self, list: &[BackendId], old: Option<&Service>) -> Option<u32> {
        if list.is_empty() {
            return Some(0);
        }
        if let Some(old) = old.filter(|old| self.holds(old, list)) {
            return Some(old.first_slot);
        }
        if let Some(first) = self.by_content.get(list) {
            return Some(*first);
        }
        let first = self.room(list.len() as u32)?;
        for (slot, backend) in (first..).zip(list) {
            self.used.insert(slot);
            self.rows.insert(slot, *backend);
        }
        self.by_content.insert(list.to_vec(), first);
        Some(first)
    }

    fn holds(&self, service: &Service, list: &[BackendId]) -> bool {
        service.count as usize == list.len()
            && (service.first_slot..).zip(list).all(|(slot, backend)| self.rows.get(&slot) == Some(backend))
    }

    /// The first gap that is long enough.
    fn room(&mut self, length: u32) -> Option<u32> {
        let mut first = self.cursor;
        for &slot in self.used.range(self.cursor..) {
            if slot - first >= length {
                break;
            }
            first = slot + 1;
        }
        if self.capacity.checked_sub(first)? < length {
            return None;
        }
        // Everything below was full or too short for this one; a single free slot is found again in the next round.
        if first == self.cursor || length == 1 {
            self.cursor = first + length;
        }
        Some(first)
    }

    /// The slots that the rows use; the others are free.
    fn rows<'a>(mut self, services: impl Iterator<Item = &'a Service>) -> BTreeMap<u32, BackendId> {
        let kept: BTreeSet<u32> = services.flat_map(|s| s.first_slot..s.first_slot + s.count).collect();
        self.rows.retain(|slot, _| kept.contains(slot));
        self.rows
    }
}

#[cfg(test)]
mod tests;
