//! One worker: takes a key, reconciles it on the snapshot, executes the actions in order, tells the queue how it went.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::PoisonError,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    ApiError, Shared,
    queue::{Item, Outcome, Verdict},
};
use crate::{action::Action, controller::Controller};

/// How often an idle worker looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(500);

/// Until the stop.
pub(super) fn run(shared: &Shared) {
    while !shared.stopped() {
        let Some(item) = shared.queue.next(PATIENCE) else { continue };
        let controller = shared.controllers[item.controller];
        let (outcome, priority) = process(shared, &controller, &item);
        shared.queue.done(item, &outcome, priority);
    }
}

fn process(shared: &Shared, controller: &Controller, item: &Item) -> (Outcome, i64) {
    let started = Instant::now();
    let snapshot = shared.snapshot.read().unwrap_or_else(PoisonError::into_inner);
    let seen = snapshot.revision();
    let failed_before = snapshot.failure(controller.name, &item.key).is_some();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let actions = (controller.reconcile)(&snapshot, &item.key, Timestamp::now());
        let priority = controller.priority.map_or(0, |priority| priority(&snapshot, &item.key));
        (actions, priority)
    }));
    drop(snapshot);
    let Ok((actions, priority)) = result else {
        tracing::error!(controller = controller.name, key = %item.key, "a controller panicked; this key is tried again");
        return (Outcome { verdict: Verdict::Failed, ..Outcome::default() }, 0);
    };
    let mut outcome = Outcome::default();
    let error = execute(shared, controller, &actions, &mut outcome).err();
    if let Some(error) = &error {
        tracing::debug!(controller = controller.name, key = %item.key, code = error.code, reason = error.reason, %error, "not done");
        outcome.verdict = if error.code == 409 && error.reason != "AlreadyExists" {
            Verdict::Conflict(seen)
        } else {
            Verdict::Failed
        };
    }
    if failed_before || outcome.verdict == Verdict::Failed {
        let mut snapshot = shared.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        snapshot.note_failure(controller.name, &item.key, error.map(|error| error.message));
    }
    tracing::trace!(controller = controller.name, key = %item.key, actions = actions.len(), took = ?started.elapsed(), "reconciled");
    (outcome, priority)
}

/// In order, up to the first failure.
fn execute(
    shared: &Shared,
    controller: &Controller,
    actions: &[Action],
    outcome: &mut Outcome,
) -> Result<(), ApiError> {
    for (index, action) in actions.iter().enumerate() {
        if shared.stopped() {
            return Ok(());
        }
        match action {
            Action::IfFailed(_) => {}
            Action::Event(event) => shared.events.send(controller.name, event.clone()),
            Action::RequeueAfter(after) => {
                outcome.requeue = Some(outcome.requeue.map_or(*after, |already| already.min(*after)));
            }
            Action::DeleteCollection { .. } => {
                gone_is_fine(shared.api.execute(controller.name, action))?;
            }
            Action::Create { .. }
            | Action::Update { .. }
            | Action::Patch { .. }
            | Action::Delete { .. }
            | Action::Bind { .. } => match write(shared, controller, action) {
                Ok(revision) => outcome.wrote = outcome.wrote.max(revision),
                Err(error) => {
                    report(shared, controller, &actions[index..], &error);
                    return Err(error);
                }
            },
        }
    }
    Ok(())
}

fn write(shared: &Shared, controller: &Controller, action: &Action) -> Result<u64, ApiError> {
    let result = shared.api.execute(controller.name, action);
    match action {
        Action::Create { .. } => result,
        // What is to be changed is gone: the snapshot will show it.
        _ => gone_is_fine(result),
    }
}

fn gone_is_fine(result: Result<u64, ApiError>) -> Result<u64, ApiError> {
    match result {
        Err(error) if error.code == 404 => Ok(0),
        other => other,
    }
}

/// Records the event that was prepared for a failure. Conflicts are retried silently.
fn report(shared: &Shared, controller: &Controller, rest: &[Action], error: &ApiError) {
    if error.code == 409 {
        return;
    }
    let prepared = rest.iter().find_map(|action| match action {
        Action::IfFailed(event) => Some(event),
        _ => None,
    });
    if let Some(event) = prepared {
        let mut event = event.clone();
        event.message.push_str(&error.message);
        shared.events.send(controller.name, event);
    }
}
