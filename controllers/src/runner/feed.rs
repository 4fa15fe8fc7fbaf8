//! Feeds the snapshot: lists, then one watch over all resources; on its end lists again and applies only what differs.
//!
//! Workers are paused from the first list until the watch has caught up with the newest list, because lists are taken one after
//! another: only then is the snapshot a state that the cluster was in, and only then may the garbage collector
//! conclude from absence.

use std::{
    collections::BTreeSet,
    sync::{
        RwLockWriteGuard,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Shared, WatchEvent, queue::Item};
use crate::{
    controller::Change,
    resource,
    snapshot::{Kind, Snapshot},
    view::Object,
};

/// How often the feed looks whether it should stop, and lets watched time pass.
const TICK: Duration = Duration::from_millis(200);
/// More time than this between two ticks was not watched: the process was stopped or starved.
const MAX_TICK: Duration = Duration::from_secs(2);
/// Changes applied under one lock at most.
const BATCH: usize = 256;
/// If a server never sends `Progress`: so much silence means that the watch has caught up.
const QUIET: Duration = Duration::from_secs(2);

/// Until the stop.
pub(super) fn run(shared: &Shared) {
    while !shared.stopped() {
        shared.queue.pause(true);
        let kinds: Vec<Kind> = shared
            .api
            .kinds()
            .into_iter()
            .filter(|kind| kind.resource.split('.').next() != Some(resource::EVENTS))
            .collect();
        let (from, until) = list(shared, &kinds);
        let names: Vec<&str> = kinds.iter().map(|kind| kind.resource.as_str()).collect();
        let watch = shared.api.watch(&names, from);
        follow(shared, &watch, until);
    }
}

/// Lists everything; returns from where to watch and up to where it must get before anything may run.
fn list(shared: &Shared, kinds: &[Kind]) -> (u64, u64) {
    let (mut from, mut until) = (u64::MAX, 0);
    write(shared).set_kinds(kinds.to_vec());
    for kind in kinds {
        let (revision, objects) = shared.api.list(&kind.resource);
        from = from.min(revision);
        until = until.max(revision);
        let mut snapshot = write(shared);
        let mut listed = BTreeSet::new();
        let mut changes = Vec::new();
        for object in &objects {
            match Object::decode(&kind.resource, object) {
                Ok(object) => listed.insert(object.meta().key()),
                Err(error) => {
                    tracing::warn!(resource = kind.resource, %error, "an object cannot be read");
                    continue;
                }
            };
        }
        for key in snapshot.missing(&kind.resource, &listed) {
            changes.extend(snapshot.remove(&kind.resource, &key));
        }
        for object in &objects {
            changes.extend(snapshot.apply(&kind.resource, object, 0, false).ok().flatten());
        }
        enqueue(shared, &snapshot, &changes);
    }
    tracing::debug!(from, until, resources = kinds.len(), "listed");
    (if from == u64::MAX { 0 } else { from }, until)
}

/// Follows a watch until it ends.
fn follow(shared: &Shared, watch: &Receiver<WatchEvent>, until: u64) {
    let mut synced = false;
    let mut quiet_since = Instant::now();
    let mut last_tick = Instant::now();
    while !shared.stopped() {
        let first = watch.recv_timeout(TICK);
        let passed = last_tick.elapsed().min(MAX_TICK);
        last_tick = Instant::now();
        write(shared).tick(passed);
        match first {
            Err(RecvTimeoutError::Timeout) => {
                if !synced && quiet_since.elapsed() > QUIET {
                    synced = true;
                    reached(shared, until);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(TICK);
                return;
            }
            Ok(first) => {
                quiet_since = Instant::now();
                let batch = std::iter::once(first).chain(watch.try_iter().take(BATCH));
                let Some(revision) = apply(shared, batch) else {
                    std::thread::sleep(TICK);
                    return;
                };
                if synced {
                    shared.queue.observed(revision);
                } else if revision >= until {
                    synced = true;
                    reached(shared, revision);
                }
            }
        }
    }
}

/// The snapshot is complete up to here: work may begin.
fn reached(shared: &Shared, revision: u64) {
    write(shared).advance(revision);
    shared.queue.observed(revision);
    shared.queue.pause(false);
}

/// Applies a batch; the revision reached, or none if the watch expired.
fn apply(shared: &Shared, batch: impl Iterator<Item = WatchEvent>) -> Option<u64> {
    let mut reached = 0;
    let mut changes = Vec::new();
    let mut expired = false;
    let mut snapshot = write(shared);
    for event in batch {
        match event {
            WatchEvent::Change { revision, resource, object, deleted } => {
                reached = reached.max(revision);
                match snapshot.apply(&resource, &object, revision, deleted) {
                    Ok(change) => changes.extend(change),
                    Err(error) => tracing::warn!(%resource, revision, %error, "an object cannot be read"),
                }
            }
            WatchEvent::Progress { revision } => reached = reached.max(revision),
            WatchEvent::Expired => {
                expired = true;
                break;
            }
        }
    }
    snapshot.advance(reached);
    enqueue(shared, &snapshot, &changes);
    (!expired).then_some(reached)
}

/// Asks each controller which of its keys the changes touch.
fn enqueue(shared: &Shared, snapshot: &Snapshot, changes: &[Change]) {
    let mut items: Vec<(Item, i64)> = Vec::new();
    for change in changes {
        for (index, controller) in shared.controllers.iter().enumerate() {
            if !controller.watches.is_empty() && !controller.watches.contains(&&*change.resource) {
                continue;
            }
            for key in (controller.keys)(snapshot, change) {
                let priority = controller.priority.map_or(0, |priority| priority(snapshot, &key));
                items.push((Item { controller: index, key }, priority));
            }
        }
    }
    shared.queue.add(items);
}

fn write(shared: &Shared) -> RwLockWriteGuard<'_, Snapshot> {
    shared.snapshot.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
