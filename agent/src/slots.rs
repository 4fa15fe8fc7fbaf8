//! Places in the array tables: which row is which pod, node or backend. Stable, and read back from the maps on start.
//!
//! Everything else that the tables hold is named by content. A row that becomes free keeps its generation, raised by
//! one, and is not given out in the same round: what still names it must see first that it is gone.
use std::collections::{BTreeMap, BTreeSet};

use abi::{
    Addr,
    pod::{HOST, Pod, PodId},
    route::{Node, NodeId},
};

use crate::tables::Tables;

/// This node's own row of `NODES`: known before any map is, since the programs' settings name it.
pub const LOCAL_NODE: NodeId = 1;

/// What the array tables hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// `POD`.
    pub pods: BTreeMap<PodId, Pod>,
    /// `NODES`.
    pub nodes: BTreeMap<NodeId, Node>,
    /// `BACKENDS`, `SLOTS`, `SERVICES`.
    pub services: proxy::slots::Slots,
    /// By pod, what its rules say and of whom, at the low bit of the epoch in force.
    pub rules: BTreeMap<PodId, u64>,
}

impl Slots {
    /// The slots as the kernel's tables say.
    pub fn read(have: &Tables) -> Slots {
        let services = proxy::slots::Slots::from_maps(
            have.backends.iter().map(|(id, row)| (*id, *row)),
            |slot| have.slots.get(&slot).copied(),
            have.services.iter().map(|(key, row)| (*key, *row)),
        );
        let rules = fingerprints(have, (have.epoch() & 1) as usize);
        Slots { pods: have.pod.clone(), nodes: have.nodes.clone(), services, rules }
    }
}

/// One array's rows, given out by an identity that the row itself shows.
pub struct Places<'a, Row> {
    have: &'a BTreeMap<u32, Row>,
    taken: BTreeSet<u32>,
    next: u32,
    capacity: u32,
}

impl<'a, Row> Places<'a, Row> {
    /// Rows from `first` up to the capacity; those below are nobody's to take.
    pub fn new(have: &'a BTreeMap<u32, Row>, first: u32, capacity: u32) -> Places<'a, Row> {
        Places { have, taken: BTreeSet::new(), next: first, capacity }
    }

    /// The first of these rows that already is this one.
    pub fn kept(&mut self, among: &[u32], is: impl Fn(&Row) -> bool) -> Option<(u32, &'a Row)> {
        let rows = among.iter().filter_map(|id| self.have.get_key_value(id));
        let (id, row) = rows.into_iter().find(|(id, row)| is(row) && !self.taken.contains(id))?;
        self.taken.insert(*id);
        Some((*id, row))
    }

    /// A row that nobody has and nobody had a moment ago.
    pub fn fresh(&mut self, is_free: impl Fn(&Row) -> bool) -> Option<(u32, Option<&'a Row>)> {
        while self.next < self.capacity {
            let id = self.next;
            self.next += 1;
            let row = self.have.get(&id);
            if !self.taken.contains(&id) && row.is_none_or(&is_free) {
                self.taken.insert(id);
                return Some((id, row));
            }
        }
        None
    }
}

/// Rows by something that they show, so that nobody goes through all of them for each that is sought.
pub fn by<K: Ord, Row>(rows: &BTreeMap<u32, Row>, shows: impl Fn(&Row) -> K) -> BTreeMap<K, Vec<u32>> {
    let mut by: BTreeMap<K, Vec<u32>> = BTreeMap::new();
    for (id, row) in rows {
        by.entry(shows(row)).or_default().push(*id);
    }
    by
}

/// True for a row of `POD` that is nobody's.
pub fn pod_is_free(row: &Pod) -> bool {
    row.addr4 == Addr::ANY && row.ifindex == 0
}

/// True for a row of `NODES` that is nobody's.
pub fn node_is_free(row: &Node) -> bool {
    row.tunnel == Addr::ANY
}

/// A number per isolated pod that changes when its rules change, or when an address comes to or leaves a class that
/// its rules name. `side` is the half of the rows of `POD` that counts.
pub fn fingerprints(tables: &Tables, side: usize) -> BTreeMap<PodId, u64> {
    let isolated: Vec<(&PodId, &Pod)> =
        tables.pod.iter().filter(|(id, row)| **id != HOST && row.isolated[side] != 0).collect();
    if isolated.is_empty() {
        return BTreeMap::new();
    }
    // Sums, so that the order of rows does not matter.
    let mut members: BTreeMap<u32, u64> = BTreeMap::new();
    let cidrs = tables.cidrs.iter().map(|(prefix, class)| (class, mix(prefix.addr, prefix.prefix_len)));
    for (class, hash) in tables.peers.iter().map(|(addr, class)| (class, mix(*addr, 128))).chain(cidrs) {
        let sum = members.entry(*class).or_default();
        *sum = sum.wrapping_add(hash);
    }
    let mut sets: BTreeMap<u32, u64> = BTreeMap::new();
    for (key, value) in &tables.policy {
        let text = format!("{key:?}{value:?}{}", members.get(&key.class).copied().unwrap_or_default());
        let sum = sets.entry(key.set).or_default();
        *sum = sum.wrapping_add(objects::content::hash(&text, 0));
    }
    let number = |row: &Pod| {
        let of_set = sets.get(&row.policy_set[side]).copied().unwrap_or_default();
        of_set.wrapping_mul(31).wrapping_add(u64::from(row.policy_set[side]) << 8 | u64::from(row.isolated[side]))
    };
    isolated.into_iter().map(|(id, row)| (*id, number(row))).collect()
}

fn mix(addr: Addr, len: u32) -> u64 {
    let bits = u128::from_be_bytes(addr.bytes());
    let folded = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(17) ^ (u64::from(len) << 40);
    (folded ^ (folded >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
