//! Addresses that change their peer class while rules change: so that no packet meets a mix of old and new.
//!
//! An address may go straight to its new class if every set in force answers alike for both; a class that is new may be
//! given the old one's rows for that. Else it goes by a class of its own, which answers like the old class in the sets
//! in force and like the new one in the sets to come; after the flip it is dissolved. A set that is both, in force for
//! some pods and to come for others (or for both ends of a flow), goes by another id until then: a *version*.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use abi::{
    Addr,
    addr::Prefix,
    peer::{ANY, Class},
    pod::{HOST, READY},
    policy::{PolicyKey, PolicyValue, SetId},
};
use zerocopy::IntoBytes;

use super::{differences, put};
use crate::{
    apply::Op,
    tables::{Table, Tables},
};

/// The steps for `PEERS` and `CIDRS`, and the rows of `POLICY` that they need.
#[derive(Default)]
pub(super) struct Moves {
    /// Rows for classes that no address has yet.
    pub(super) refine: Vec<Op>,
    /// Before the flip.
    pub(super) first: Vec<Op>,
    /// After the flip and a barrier.
    pub(super) last: Vec<Op>,
    /// Verdicts of pods that keep their set turn by steps of `last`.
    pub(super) late: bool,
    /// Ids by which sets to come go from the flip until after `last`.
    pub(super) versions: BTreeMap<SetId, SetId>,
    /// Removes the rows of classes that lived for this change only.
    pub(super) refined: Vec<Op>,
}

/// A key of `PEERS` or `CIDRS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Peer(Addr),
    Cidr(Prefix),
}

impl Place {
    /// The step that makes the place say `class`; `None` is no row of its own.
    fn set(self, class: Option<Class>) -> Op {
        match (self, class) {
            (Place::Peer(addr), Some(class)) => put(Table::Peers, &addr, &class),
            (Place::Peer(addr), None) => Op::Delete(Table::Peers, addr.as_bytes().into()),
            (Place::Cidr(prefix), Some(class)) => put(Table::Cidrs, &prefix, &class),
            (Place::Cidr(prefix), None) => Op::Delete(Table::Cidrs, prefix.as_bytes().into()),
        }
    }
}

/// One address or prefix whose row changes.
struct Mover {
    place: Place,
    /// The row to be.
    row: Option<Class>,
    /// What the datapath finds for it before and after, rows of wider prefixes included.
    from: Option<Class>,
    to: Option<Class>,
    /// It has a row before.
    own: bool,
    /// A pod of this node has the address before and after: it is both ends' affair.
    local: bool,
    /// Nothing wider is there: once the row is gone, the address has no class, and sets that stay see only that.
    uncovered: bool,
}

pub(super) fn moves(have: &Tables, want: &Tables) -> Moves {
    let movers = movers(have, want);
    let mut moves = Moves::default();
    if movers.is_empty() {
        return moves;
    }
    let mut refinement = Refinement::new(have, want, &movers);
    refinement.write_versions(want, &mut moves);
    for mover in &movers {
        if mover.from.is_some() && refinement.serves_both(mover.from, mover.to) {
            // It answers right before and after the flip: the last step is enough. A failed round leaves such rows.
            if !mover.own {
                moves.first.push(mover.place.set(mover.from)); // Wider prefixes may move meanwhile.
            }
            moves.last.push(mover.place.set(mover.row));
        } else if (mover.uncovered || mover.to.is_some()) && refinement.direct(mover.from, mover.to, &mut moves) {
            moves.first.push(mover.place.set(mover.to));
            if mover.to != mover.row {
                moves.last.push(mover.place.set(mover.row));
            }
        } else {
            let between = refinement.between(mover.from, mover.to, &mut moves);
            moves.first.push(mover.place.set(Some(between)));
            moves.last.push(mover.place.set(mover.row));
        }
    }
    moves.versions = refinement.versions;
    // What has no row of its own at the end falls to a wider prefix: these are settled first.
    moves.last.reverse();
    moves
}

/// Addresses first, then prefixes, narrow ones before wide ones: while a wider one moves, what lies inside it and has
/// or had another class already has its own row.
fn movers(have: &Tables, want: &Tables) -> Vec<Mover> {
    let mut movers = Vec::new();
    for (addr, old, row) in differences(&have.peers, &want.peers) {
        let (addr, old, row) = (*addr, old.copied(), row.copied());
        let uncovered = row.is_none() && have.cidr_class(Prefix::host(addr)).is_none();
        let (from, to) = (have.class_of(addr), want.class_of(addr));
        let uncovered = uncovered && to.is_none();
        let (own, local) = (old.is_some(), stays(have, want, addr));
        movers.push(Mover { place: Place::Peer(addr), row, from, to, own, local, uncovered });
    }
    let prefixes: Vec<_> = differences(&have.cidrs, &want.cidrs).collect();
    for (prefix, old, row) in prefixes.into_iter().rev() {
        let (from, to) = (have.cidr_class(*prefix), want.cidr_class(*prefix));
        let (place, own) = (Place::Cidr(*prefix), old.is_some());
        movers.push(Mover { place, row: row.copied(), from, to, own, local: false, uncovered: false });
    }
    movers
}

/// True if an address leads to the same pod of this node, ready before and after.
fn stays(have: &Tables, want: &Tables, addr: Addr) -> bool {
    let ready = |tables: &Tables| {
        let id = tables.pods.get(&addr).filter(|id| **id != HOST)?;
        tables.pod.get(id).filter(|row| row.flags & READY != 0).map(|_| *id)
    };
    ready(have).is_some() && ready(have) == ready(want)
}

/// Rows of `POLICY` of one class in one set: the key without both, and the value.
type Rules = BTreeMap<(u32, u8, u8, u16), PolicyValue>;

struct Refinement {
    have: HashMap<(SetId, Class), Rules>,
    want: HashMap<(SetId, Class), Rules>,
    /// Sets that some pod of before has not after the change; that some pod has only then; that some pod keeps.
    leaving: BTreeSet<SetId>,
    arriving: BTreeSet<SetId>,
    staying: BTreeSet<SetId>,
    versions: BTreeMap<SetId, SetId>,
    /// Classes that addresses have, or that this change has given a meaning.
    occupied: BTreeSet<Class>,
    /// Every class that will have a meaning.
    known: BTreeSet<Class>,
    made: BTreeMap<(Option<Class>, Option<Class>), Class>,
}

impl Refinement {
    fn new(have: &Tables, want: &Tables, movers: &[Mover]) -> Refinement {
        let active = (have.epoch() & 1) as usize;
        let (mut leaving, mut arriving, mut staying) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (id, old) in have.pod.iter().filter(|(_, row)| row.flags & READY != 0) {
            let Some(new) = want.pod.get(id).filter(|row| row.flags & READY != 0) else { continue };
            if old.policy_set[active] == new.policy_set[0] {
                staying.insert(new.policy_set[0]);
            } else {
                leaving.insert(old.policy_set[active]);
                arriving.insert(new.policy_set[0]);
            }
        }
        let occupied: BTreeSet<Class> = have.peers.values().chain(have.cidrs.values()).copied().collect();
        let later = want.peers.values().chain(want.cidrs.values());
        let known = later.chain(want.policy.keys().map(|key| &key.class)).copied().chain([ANY]).collect();
        let taken: BTreeSet<SetId> =
            have.pod.values().chain(want.pod.values()).flat_map(|row| row.policy_set).collect();
        let (have, want) = (index(&have.policy), index(&want.policy));
        let (versions, made) = (BTreeMap::new(), BTreeMap::new());
        let mut refinement = Refinement { have, want, leaving, arriving, staying, versions, occupied, known, made };
        refinement.find_versions(movers, taken);
        refinement
    }

    /// Sets that would have to answer like before and like after at once.
    fn find_versions(&mut self, movers: &[Mover], mut taken: BTreeSet<SetId>) {
        taken.extend(self.have.keys().chain(self.want.keys()).map(|(set, _)| *set));
        let after: BTreeSet<SetId> = self.arriving.union(&self.staying).copied().collect();
        for set in after {
            let both = self.leaving.contains(&set) && self.arriving.contains(&set);
            let before = self.leaving.contains(&set) || self.staying.contains(&set);
            let turns = |mover: &Mover| rules(&self.have, set, mover.from) != rules(&self.want, set, mover.to);
            if before && movers.iter().any(|mover| (both || mover.local) && turns(mover)) {
                let mut ids = (1..).map(|round: SetId| set.wrapping_add(round.wrapping_mul(0x9e37_79b1)));
                let version =
                    ids.find(|id| *id != 0 && !taken.contains(id)).expect("there are fewer sets than numbers");
                taken.insert(version);
                self.versions.insert(set, version);
            }
        }
    }

    /// The rows of the versions: those of their sets.
    fn write_versions(&self, want: &Tables, moves: &mut Moves) {
        for (key, value) in &want.policy {
            if let Some(set) = self.versions.get(&key.set) {
                let key = PolicyKey { set: *set, ..*key };
                moves.refine.push(put(Table::Policy, &key, value));
                moves.refined.push(Op::Delete(Table::Policy, key.as_bytes().into()));
            }
        }
    }

    /// Sets whose rows must answer as before until the flip.
    fn of_before(&self) -> BTreeSet<SetId> {
        self.leaving.iter().chain(self.versions.keys()).copied().collect()
    }

    /// Sets whose own rows must answer as after the change at the flip at the latest.
    fn of_after(&self) -> BTreeSet<SetId> {
        let late = |set: &SetId| self.leaving.contains(set) && !self.arriving.contains(set);
        let sets = self.arriving.iter().chain(&self.staying);
        sets.filter(|set| !self.versions.contains_key(set) && !late(set)).copied().collect()
    }

    /// What a class says in a set once the rows of `want` are there.
    fn merged(&self, set: SetId, class: Option<Class>) -> Rules {
        let mut merged = rules(&self.have, set, class);
        merged.extend(rules(&self.want, set, class));
        merged
    }

    /// True if a class answers like itself before the flip and like `to` after it, as it is.
    fn serves_both(&self, class: Option<Class>, to: Option<Class>) -> bool {
        self.of_before().into_iter().all(|set| self.merged(set, class) == rules(&self.have, set, class))
            && self.of_after().into_iter().all(|set| self.merged(set, class) == rules(&self.want, set, to))
            && self.versions.keys().all(|set| rules(&self.want, *set, class) == rules(&self.want, *set, to))
    }

    /// True if an address may go from one class to the other before the flip, unnoticed by the sets that change.
    fn direct(&mut self, from: Option<Class>, to: Option<Class>, moves: &mut Moves) -> bool {
        let alike = |set: &SetId| self.merged(*set, to) == rules(&self.have, *set, from);
        let after = self.of_after().into_iter().all(|set| self.merged(set, to) == rules(&self.want, set, to));
        let unlike: Vec<SetId> = self.of_before().into_iter().filter(|set| !alike(set)).collect();
        if after && unlike.is_empty() {
            self.occupied.extend(to);
            return true;
        }
        let Some(to) = to.filter(|to| after && !self.occupied.contains(to)) else { return false };
        // A class that no address has yet: let it answer like the old one until the flip, in sets that go.
        if unlike.iter().any(|set| self.arriving.contains(set) || self.staying.contains(set)) {
            return false;
        }
        self.occupied.insert(to);
        for set in unlike {
            let wanted = rules(&self.have, set, from);
            self.rewrite(set, to, &wanted, moves);
            self.have.insert((set, to), wanted);
        }
        true
    }

    /// Makes a class say `wanted` in a set, for the time of this change.
    fn rewrite(&self, set: SetId, class: Class, wanted: &Rules, moves: &mut Moves) {
        let there = self.merged(set, Some(class)); // Left by a round that failed.
        for key in there.keys().filter(|key| !wanted.contains_key(key)) {
            moves.refine.push(Op::Delete(Table::Policy, full(set, class, *key).as_bytes().into()));
        }
        for (key, value) in wanted.iter().filter(|(key, value)| there.get(key) != Some(value)) {
            let full = full(set, class, *key);
            moves.refine.push(put(Table::Policy, &full, value));
            moves.refined.push(Op::Delete(Table::Policy, full.as_bytes().into()));
        }
    }

    /// The class that answers like `from` before the flip and like `to` after it.
    fn between(&mut self, from: Option<Class>, to: Option<Class>, moves: &mut Moves) -> Class {
        if let Some(class) = self.made.get(&(from, to)) {
            return *class;
        }
        let mut sets: BTreeMap<SetId, Rules> = BTreeMap::new();
        sets.extend(self.arriving.iter().chain(&self.staying).map(|set| (*set, rules(&self.want, *set, to))));
        sets.extend(self.of_before().into_iter().map(|set| (set, rules(&self.have, set, from))));
        sets.extend(self.versions.iter().map(|(set, version)| (*version, rules(&self.want, *set, to))));
        let says_so = |class: Class| sets.iter().all(|(set, wanted)| rules(&self.have, *set, Some(class)) == *wanted);
        let seed = u64::from(from.unwrap_or(0)) << 32 | u64::from(to.unwrap_or(0));
        let class = (1_u64..)
            .map(|round| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round << 16) >> 16) as Class)
            .find(|class| !self.known.contains(class) && (!self.occupied.contains(class) || says_so(*class)))
            .expect("there are fewer classes than numbers");
        self.known.insert(class);
        self.made.insert((from, to), class);
        moves.late |= self.leaving.intersection(&self.staying).any(|set| sets[set] != rules(&self.want, *set, to));
        for (set, wanted) in sets {
            self.rewrite(set, class, &wanted, moves);
        }
        class
    }
}

fn rules(index: &HashMap<(SetId, Class), Rules>, set: SetId, class: Option<Class>) -> Rules {
    class.and_then(|class| index.get(&(set, class)).cloned()).unwrap_or_default()
}

fn index(policy: &BTreeMap<PolicyKey, PolicyValue>) -> HashMap<(SetId, Class), Rules> {
    let mut index: HashMap<(SetId, Class), Rules> = HashMap::new();
    for (key, value) in policy {
        let rest = (key.prefix_len, key.direction, key.proto, key.port);
        index.entry((key.set, key.class)).or_default().insert(rest, *value);
    }
    index
}

fn full(set: SetId, class: Class, (prefix_len, direction, proto, port): (u32, u8, u8, u16)) -> PolicyKey {
    PolicyKey { prefix_len, set, class, direction, proto, port }
}
