//! The work queue: which key of which controller may run now.
//!
//! Per controller the semantics of client-go's work queue (a key waits once, runs once at a time, and again if it changed
//! meanwhile), plus what replaces expectations: a key is held until the snapshot has reached its own last write.

use std::{
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::controller::{Concurrency, Controller, Key};

/// First retry after a failure; doubles up to `MAX_BACK_OFF` (client-go's ItemExponentialFailureRateLimiter).
const MIN_BACK_OFF: Duration = Duration::from_millis(5);
const MAX_BACK_OFF: Duration = Duration::from_secs(1000);
/// A write that the watch does not show for so long is taken as shown: better a conflict than a key that stands still.
const BARRIER_PATIENCE: Duration = Duration::from_secs(10);
/// After a conflict, how long at most to wait for a newer snapshot.
const CONFLICT_PATIENCE: Duration = Duration::from_millis(500);

/// A key of a controller, by the controller's index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) controller: usize,
    pub(super) key: Key,
}

/// How a reconcile ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The newest revision that it wrote.
    pub(super) wrote: u64,
    pub(super) requeue: Option<Duration>,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    #[default]
    Done,
    /// Written by somebody else since this revision of the snapshot.
    Conflict(u64),
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    state: Wait,
    failures: u32,
    barrier: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Wait {
    #[default]
    Idle,
    Queued,
    Running,
    /// Running, and changed since.
    Dirty,
}

/// Of a serial controller: whether it runs, what waits, and its own barrier.
#[derive(Debug, Default)]
struct Lane {
    serial: bool,
    running: bool,
    barrier: u64,
    waiting: BinaryHeap<Ranked>,
}

/// Higher priority first, then the earlier one.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    priority: i64,
    number: u64,
    key: Key,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.priority.cmp(&other.priority).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    observed: u64,
    number: u64,
    entries: HashMap<Item, Entry>,
    lanes: Vec<Lane>,
    ready: VecDeque<Item>,
    /// Held until the snapshot reaches a revision.
    held: BTreeMap<(u64, u64), Item>,
    timers: BTreeMap<(Instant, u64), Timer>,
    /// The one timer of a key that waits to be added again.
    alarms: HashMap<Item, (Instant, u64)>,
}

#[derive(Debug)]
enum Timer {
    Add(Item, i64),
    /// The barrier of this number's hold is lifted.
    Release(u64, u64),
    /// A serial controller's barrier is lifted.
    ReleaseLane(usize, u64),
}

/// The queue of all controllers.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    pub(super) fn new(controllers: &[Controller]) -> Self {
        let lanes = controllers
            .iter()
            .map(|c| Lane { serial: c.concurrency == Concurrency::Serial, ..Lane::default() })
            .collect();
        Self { state: Mutex::new(State { lanes, paused: true, ..State::default() }), changed: Condvar::new() }
    }

    /// Nothing runs while paused: the snapshot is not complete.
    pub(super) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_all();
    }

    /// A change touched these keys.
    pub(super) fn add(&self, items: impl IntoIterator<Item = (Item, i64)>) {
        let mut state = self.lock();
        for (item, priority) in items {
            state.add(item, priority);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The snapshot has reached a revision.
    pub(super) fn observed(&self, revision: u64) {
        let mut state = self.lock();
        if revision > state.observed {
            state.observed = revision;
            state.release();
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next item to run; none after at most `patience`.
    pub(super) fn next(&self, patience: Duration) -> Option<Item> {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.fire(now);
            if !state.paused
                && let Some(item) = state.take()
            {
                return Some(item);
            }
            let wake = state.timers.first_key_value().map_or(until, |((at, _), _)| (*at).min(until));
            if now >= until {
                return None;
            }
            let wait = wake.saturating_duration_since(now).max(Duration::from_millis(1));
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// An item ran.
    pub(super) fn done(&self, item: Item, outcome: &Outcome, priority: i64) {
        let mut state = self.lock();
        state.done(item, outcome, priority, Instant::now());
        drop(state);
        self.changed.notify_all();
    }

    /// Wakes everybody, to see that it is time to stop.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, item: Item, priority: i64) {
        let entry = self.entries.entry(item.clone()).or_default();
        match entry.state {
            Wait::Queued | Wait::Dirty => {}
            Wait::Running => entry.state = Wait::Dirty,
            Wait::Idle => {
                entry.state = Wait::Queued;
                let barrier = entry.barrier;
                self.number += 1;
                let lane = &mut self.lanes[item.controller];
                if lane.serial {
                    lane.waiting.push(Ranked { priority, number: self.number, key: item.key });
                } else if barrier > self.observed {
                    self.held.insert((barrier, self.number), item);
                    let at = (Instant::now() + BARRIER_PATIENCE, self.number);
                    self.timers.insert(at, Timer::Release(barrier, self.number));
                } else {
                    self.ready.push_back(item);
                }
            }
        }
    }

    fn take(&mut self) -> Option<Item> {
        let observed = self.observed;
        let open = |lane: &Lane| !lane.running && lane.barrier <= observed && !lane.waiting.is_empty();
        let item = if let Some(controller) = self.lanes.iter().position(open) {
            let lane = &mut self.lanes[controller];
            lane.running = true;
            Item { controller, key: lane.waiting.pop()?.key }
        } else {
            self.ready.pop_front()?
        };
        if let Some(entry) = self.entries.get_mut(&item) {
            entry.state = Wait::Running;
        }
        Some(item)
    }

    fn done(&mut self, item: Item, outcome: &Outcome, priority: i64, now: Instant) {
        self.number += 1;
        let number = self.number;
        let lane = &mut self.lanes[item.controller];
        lane.running = false;
        if lane.serial && outcome.wrote > lane.barrier {
            lane.barrier = outcome.wrote;
            self.timers.insert((now + BARRIER_PATIENCE, number), Timer::ReleaseLane(item.controller, outcome.wrote));
        }
        let entry = self.entries.entry(item.clone()).or_default();
        let dirty = entry.state == Wait::Dirty;
        entry.state = Wait::Idle;
        entry.barrier = entry.barrier.max(outcome.wrote);
        let retry = match outcome.verdict {
            Verdict::Done => {
                entry.failures = 0;
                outcome.requeue
            }
            Verdict::Conflict(seen) => {
                entry.failures += 1;
                let wait = if self.observed > seen { Duration::ZERO } else { CONFLICT_PATIENCE };
                Some(back_off(entry.failures).min(CONFLICT_PATIENCE).max(wait / 10))
            }
            Verdict::Failed => {
                entry.failures += 1;
                Some(back_off(entry.failures))
            }
        };
        if entry.failures == 0 && entry.barrier <= self.observed && !dirty {
            self.entries.remove(&item);
        }
        if let Some(earlier) = self.alarms.remove(&item) {
            self.timers.remove(&earlier);
        }
        if let Some(after) = retry {
            self.timers.insert((now + after, number), Timer::Add(item.clone(), priority));
            self.alarms.insert(item.clone(), (now + after, number));
        }
        if dirty {
            self.add(item, priority);
        }
    }

    /// Lets go what waited for a revision that is reached now.
    fn release(&mut self) {
        let later = self.held.split_off(&(self.observed + 1, 0));
        let now = std::mem::replace(&mut self.held, later);
        self.ready.extend(now.into_values());
    }

    fn fire(&mut self, now: Instant) {
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            match first.remove() {
                Timer::Add(item, priority) => {
                    self.alarms.remove(&item);
                    self.add(item, priority);
                }
                Timer::Release(barrier, number) => {
                    if let Some(item) = self.held.remove(&(barrier, number)) {
                        tracing::warn!(key = %item.key, barrier, observed = self.observed, "own write not observed in time");
                        self.ready.push_back(item);
                    }
                }
                Timer::ReleaseLane(controller, barrier) => {
                    let lane = &mut self.lanes[controller];
                    if lane.barrier == barrier {
                        if barrier > self.observed {
                            tracing::warn!(barrier, observed = self.observed, "own write not observed in time");
                        }
                        lane.barrier = 0;
                    }
                }
            }
        }
    }
}

fn back_off(failures: u32) -> Duration {
    MIN_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(MAX_BACK_OFF)
}

#[cfg(test)]
mod tests;
