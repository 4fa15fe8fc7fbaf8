//! What is there and what should be → the steps between, in an order that is safe after every single one.
//!
//! A change of policy is refine → flip → coarsen: rows that nobody reads yet come first, then one store of the epoch
//! makes every new set take effect at once, and after a barrier goes what is unused. A pod that goes is the first to
//! go and one that comes the last to come, so that nobody is judged by what another was, or by rules of before. Service
//! tables are filled from the far end: backends, slots, then the services that lead to them; they are emptied the other
//! way round. Pure: the kernel is `apply`'s affair.
//!
//! What comes in is what `compile` makes: a row of `POD` names its set twice, tombstones keep the generation of free
//! array rows, and `CONFIG` is ours alone.
use std::{cmp::Ordering, collections::BTreeMap};

use abi::{config::Config, pod::READY, policy::SetId, service::ALIVE};
use zerocopy::{Immutable, IntoBytes};

use crate::{
    apply::Op,
    tables::{Table, Tables, row},
};

mod classes;

/// The steps from `have` to `want`; none if they say the same, the epoch apart.
pub fn diff(have: &Tables, want: &Tables) -> Vec<Op> {
    let moves = classes::moves(have, want);
    let rows = PodRows::between(have, want, &moves.versions);
    let mut ops = Ops::default();

    // Who goes, or has an address no more, neither sends nor receives from here on.
    let other = |addr: &&abi::Addr| want.pods.get(*addr) != have.pods.get(*addr);
    ops.0.extend(have.pods.keys().filter(other).map(|addr| Op::Delete(Table::Pods, addr.as_bytes().into())));
    ops.0.extend(rows.stopped);

    // Refine: rows of sets and classes that no packet meets yet, then the addresses.
    ops.puts(Table::Policy, &have.policy, &want.policy, |_, _| true);
    ops.0.extend(moves.refine);
    let moved = !moves.first.is_empty();
    ops.0.extend(moves.first);
    ops.0.extend(rows.before);
    if rows.flip || have.config.is_empty() {
        let mut config = have.config.get(&0).copied().unwrap_or_default();
        config.epoch += 1;
        ops.0.push(put(Table::Config, &0_u32, &Config { reserved: [0; 7], ..config }));
    }
    // A packet that read the old epoch or the old class must be done before a flow may be marked as judged by the new.
    if (rows.flip || moved) && (!rows.after.is_empty() || !moves.last.is_empty()) {
        ops.0.push(Op::Barrier);
    }
    let late = moves.late && !moves.last.is_empty() && !rows.after.is_empty();
    ops.0.extend(moves.last);
    if late {
        ops.0.push(Op::Barrier);
    }
    ops.0.extend(rows.after);
    // A new pod's row comes before the address that leads to it.
    ops.0.extend(rows.new);
    let other = |addr: &abi::Addr, _: &u32| want.pods.get(addr) != have.pods.get(addr);
    ops.puts(Table::Pods, &have.pods, &want.pods, other);

    // Ways and services, from the far end.
    ops.puts(Table::Nodes, &have.nodes, &want.nodes, |_, node| node.tunnel != abi::Addr::ANY);
    ops.puts(Table::Routes, &have.routes, &want.routes, |_, _| true);
    ops.puts(Table::Backends, &have.backends, &want.backends, |_, backend| backend.flags & ALIVE != 0);
    ops.puts(Table::Slots, &have.slots, &want.slots, |_, _| true);
    ops.puts(Table::Services, &have.services, &want.services, |_, _| true);

    // Coarsen: first what leads to other rows, then, when nobody is under way to them, these.
    ops.deletes(Table::Services, &have.services, &want.services);
    ops.deletes(Table::Routes, &have.routes, &want.routes);
    let mut last = Ops::default();
    last.0.extend(rows.free);
    last.deletes(Table::Pod, &have.pod, &want.pod);
    last.deletes(Table::Slots, &have.slots, &want.slots);
    last.puts(Table::Backends, &have.backends, &want.backends, |_, backend| backend.flags & ALIVE == 0);
    last.deletes(Table::Backends, &have.backends, &want.backends);
    last.puts(Table::Nodes, &have.nodes, &want.nodes, |_, node| node.tunnel == abi::Addr::ANY);
    last.deletes(Table::Nodes, &have.nodes, &want.nodes);
    last.deletes(Table::Policy, &have.policy, &want.policy);
    last.0.extend(moves.refined);
    if !last.0.is_empty() {
        ops.0.push(Op::Barrier);
        ops.0.extend(last.0);
    }
    ops.0
}

/// Rows of `POD` by the moment at which they are written.
#[derive(Default)]
struct PodRows {
    /// Some pod's rules change: the epoch must be raised.
    flip: bool,
    /// Rows that are ready no more.
    stopped: Vec<Op>,
    /// The half of a row that the next epoch selects.
    before: Vec<Op>,
    /// The final rows: generations are raised when the new rules are in force.
    after: Vec<Op>,
    /// Rows that become ready: by no packet of theirs was anything judged before.
    new: Vec<Op>,
    /// Rows that become free.
    free: Vec<Op>,
}

impl PodRows {
    /// `versions`: by which id a set goes until every address has its class.
    fn between(have: &Tables, want: &Tables, versions: &BTreeMap<SetId, SetId>) -> PodRows {
        let active = (have.epoch() & 1) as usize;
        let mut rows = PodRows::default();
        for (id, new) in &want.pod {
            let old = have.pod.get(id);
            let set = versions.get(&new.policy_set[0]).copied().filter(|_| new.isolated[0] != 0);
            if old == Some(new) && set.is_none() {
                continue;
            }
            let last = put(Table::Pod, id, new);
            match old.filter(|old| old.flags & READY != 0) {
                _ if new.flags & READY == 0 && new.ifindex == 0 => rows.free.push(last),
                Some(_) if new.flags & READY == 0 => rows.stopped.push(last),
                None => rows.new.push(last),
                Some(old) => {
                    let set = set.unwrap_or(new.policy_set[0]);
                    let says = |side: usize| (old.policy_set[side], old.isolated[side]) == (set, new.isolated[0]);
                    rows.flip |= !says(active);
                    // Also what a round that failed has left in the other half must not come into force.
                    if !says(1 - active) {
                        let mut half = *old;
                        half.policy_set[1 - active] = set;
                        half.isolated[1 - active] = new.isolated[0];
                        rows.before.push(put(Table::Pod, id, &half));
                    }
                    rows.after.push(last);
                }
            }
        }
        rows
    }
}

#[derive(Default)]
struct Ops(Vec<Op>);

impl Ops {
    /// Sets the rows that `have` has not or has otherwise, of those that `which` picks.
    fn puts<K, V>(&mut self, table: Table, have: &BTreeMap<K, V>, want: &BTreeMap<K, V>, which: impl Fn(&K, &V) -> bool)
    where
        K: Ord + IntoBytes + Immutable,
        V: PartialEq + IntoBytes + Immutable,
    {
        let new = differences(have, want).filter_map(|(key, _, new)| Some((key, new?)));
        self.0.extend(new.filter(|(key, value)| which(key, value)).map(|(key, value)| put(table, key, value)));
    }

    /// Removes the rows that `want` has not.
    fn deletes<K: Ord + IntoBytes + Immutable, V: PartialEq>(
        &mut self,
        table: Table,
        have: &BTreeMap<K, V>,
        want: &BTreeMap<K, V>,
    ) {
        let gone = differences(have, want).filter(|(_, _, new)| new.is_none());
        self.0.extend(gone.map(|(key, ..)| Op::Delete(table, key.as_bytes().into())));
    }
}

/// Keys whose rows differ, in their order, with the row before and after. Both are gone through once, side by side: tables
/// have tens of thousands of rows, and few differ.
fn differences<'a, K: Ord, V: PartialEq>(
    have: &'a BTreeMap<K, V>,
    want: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (have.iter().peekable(), want.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((old, _)), Some((new, _))) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => return old.next().map(|(key, value)| (key, Some(value), None)),
                Ordering::Greater => return new.next().map(|(key, value)| (key, None, Some(value))),
                Ordering::Equal => {
                    let ((key, old), (_, new)) = (old.next()?, new.next()?);
                    if old != new {
                        return Some((key, Some(old), Some(new)));
                    }
                }
            }
        }
    })
}

fn put<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(table: Table, key: &K, value: &V) -> Op {
    Op::Put(table, row(key, value))
}

#[cfg(test)]
mod tests;
