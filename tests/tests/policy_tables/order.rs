//! The order of changes: while the operations of `diff` are carried out one by one, each flow's verdict is the one of
//! before until it becomes the one to be, and never goes back. A round may break off anywhere; the next goes on from
//! there.
use agent::{
    apply::Op,
    diff::diff,
    tables::{Table, Tables},
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    change::{changes, happen},
    cluster::{Seed, World, seed},
    model::Model,
    node::{Flow, flows, passes, want},
};

/// Something that holds tables and judges flows by them.
pub(crate) trait Target {
    /// Carries out one operation.
    fn apply(&mut self, op: &Op);
    /// The verdict on a flow's first packet.
    fn passes(&mut self, flow: &Flow) -> bool;
}

/// Protocols and ports that the rules of random policies tell apart.
const PACKETS: [(u8, u16); 5] = [(6, 80), (6, 8080), (17, 53), (6, 53), (1, 7)];

/// A target, and what the agent knows of it.
pub(crate) struct Watched<T> {
    pub(crate) target: T,
    pub(crate) have: Tables,
    pub(crate) node: usize,
}

impl<T: Target> Watched<T> {
    fn apply(&mut self, op: &Op) {
        self.target.apply(op);
        match op {
            Op::Put(table, (key, value)) => assert!(self.have.put(*table, key, value)),
            Op::Delete(table, key) => drop(self.have.remove(*table, key)),
            Op::Barrier => {}
        }
    }

    /// From one world to the next, by the first `limit` operations. Returns whether that was all.
    pub(crate) fn change(&mut self, before: &World, after: &World, limit: usize) -> Result<bool, String> {
        let flows = flows([before, after], self.node, &PACKETS);
        let input = after.input(self.node);
        let expected: Vec<bool> = flows.iter().map(|flow| passes(&input, self.node, flow)).collect();
        let mut now: Vec<bool> = flows.iter().map(|flow| self.target.passes(flow)).collect();
        let ops = diff(&self.have, &want(after, self.node, &self.have).tables);
        for (index, op) in ops.iter().enumerate().take(limit) {
            self.apply(op);
            if self.is_unread(op) {
                continue;
            }
            for ((flow, expected), now) in flows.iter().zip(&expected).zip(&mut now) {
                let verdict = self.target.passes(flow);
                if verdict != *now && verdict != *expected {
                    let done = &ops[..=index];
                    return Err(format!("{flow:?}: {now}, to be {expected}, was {verdict} after {done:#?}"));
                }
                *now = verdict;
            }
        }
        if ops.len() > limit {
            return Ok(false);
        }
        match flows.iter().zip(expected.iter().zip(&now)).find(|(_, (expected, now))| expected != now) {
            Some((flow, (expected, _))) => Err(format!("{flow:?}: not {expected} at the end of {ops:#?}")),
            None => Ok(true),
        }
    }

    /// A row of a set that no pod has: no verdict depends on it.
    fn is_unread(&self, op: &Op) -> bool {
        let (Op::Put(Table::Policy, (key, _)) | Op::Delete(Table::Policy, key)) = op else {
            return matches!(op, Op::Barrier);
        };
        let side = (self.have.epoch() & 1) as usize;
        let set = u32::from_ne_bytes(key[4..8].try_into().unwrap());
        self.have.pod.values().all(|row| row.policy_set[side] != set || row.isolated[side] == 0)
    }
}

/// A cluster and what happens to it; where a round breaks off.
pub(crate) fn history() -> impl Strategy<Value = (Seed, Vec<(Vec<super::change::Change>, usize)>)> {
    let limit = prop_oneof![3 => Just(usize::MAX), 1 => 0..60_usize];
    (seed(), proptest::collection::vec((changes(), limit), 1..4))
}

/// Plays a history on a node of it.
pub(crate) fn play<T: Target>(
    watched: &mut Watched<T>,
    (seed, rounds): &(Seed, Vec<(Vec<super::change::Change>, usize)>),
) -> Result<(), String> {
    let mut seed = seed.clone();
    let mut before = World::of(&seed);
    watched.change(&World::default(), &before, usize::MAX)?;
    for (changes, limit) in rounds {
        happen(&mut seed, changes);
        let after = World::of(&seed);
        watched.change(&before, &after, *limit)?;
        before = after;
    }
    // What broke off is brought to its end.
    watched.change(&before, &before, usize::MAX)?;
    Ok(())
}

#[test]
fn no_prefix_of_a_change_says_what_neither_side_says() {
    let cases = std::env::var("CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&(history(), 0..2_usize), |(history, node)| {
        let mut watched = Watched { target: Model::new(), have: Tables::default(), node };
        play(&mut watched, &history).map_err(TestCaseError::fail)
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}
