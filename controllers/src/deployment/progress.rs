//! A deployment's status: counts, `Available`, `Progressing` and `ReplicaFailure`. Upstream: progress.go, sync.go.

use std::time::Duration;

use serde_json::json;

use super::Plan;
use crate::{
    action::Action,
    resource,
    view::{Condition, DeploymentStatus, ReplicaSet, condition, rfc3339},
};

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const DONE: &str = "NewReplicaSetAvailable";
/// "No deadline", as upstream's defaulting writes it.
const NO_DEADLINE: i64 = i32::MAX as i64;

/// The new set was there already.
pub(super) fn found(plan: &mut Plan<'_>, name: &str) {
    if has_deadline(plan) && condition(&plan.conditions, PROGRESSING).is_none() {
        set(plan, PROGRESSING, "True", "FoundNewReplicaSet", format!("Found new replica set \"{name}\""));
    }
}

/// The new set was made.
pub(super) fn created(plan: &mut Plan<'_>, name: &str) {
    if has_deadline(plan) {
        set(plan, PROGRESSING, "True", "NewReplicaSetCreated", format!("Created new replica set \"{name}\""));
    }
}

fn has_deadline(plan: &Plan<'_>) -> bool {
    plan.deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != NO_DEADLINE)
}

/// Sets a condition; one with the same status and reason stays as it is, one with the same status keeps its transition time.
fn set(plan: &mut Plan<'_>, type_: &str, status: &str, reason: &str, message: String) {
    let old = condition(&plan.conditions, type_).cloned();
    if old.as_ref().is_some_and(|old| old.status == status && old.reason == reason) {
        return;
    }
    put(plan, type_, status, reason, message, old.as_ref());
}

fn put(plan: &mut Plan<'_>, type_: &str, status: &str, reason: &str, message: String, old: Option<&Condition>) {
    let now = Some(rfc3339(plan.now));
    let kept = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    plan.conditions.retain(|c| c.type_ != type_);
    plan.conditions.push(Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_update_time: now.clone(),
        last_transition_time: kept.or(now),
        ..Condition::default()
    });
}

impl Plan<'_> {
    /// A pause or its end is a condition, so that the deadline does not run meanwhile.
    pub(super) fn note_pause(&mut self) {
        if !has_deadline(self) {
            return;
        }
        let reason = condition(&self.conditions, PROGRESSING).map(|c| c.reason.clone()).unwrap_or_default();
        if reason == TIMED_OUT {
            return;
        }
        let paused = self.deployment.spec.paused;
        if paused && reason != "DeploymentPaused" {
            set(self, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        } else if !paused && reason == "DeploymentPaused" {
            set(self, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
        }
    }

    /// Writes the status, if it differs.
    pub(super) fn finish(&mut self) {
        let mut status = self.counts();
        let resting = self.deployment.spec.paused || self.deployment.meta.deleting();
        if !resting {
            self.note_progress(&status);
        }
        self.note_failure();
        self.note_available(&status);
        status.conditions.clone_from(&self.conditions);
        if status != self.deployment.status {
            let value = json!({ "status": {
                "observedGeneration": status.observed_generation,
                "replicas": status.replicas,
                "updatedReplicas": status.updated_replicas,
                "readyReplicas": status.ready_replicas,
                "availableReplicas": status.available_replicas,
                "unavailableReplicas": status.unavailable_replicas,
                "collisionCount": status.collision_count,
                "conditions": status.conditions,
            }});
            self.actions.push(Action::patch(resource::DEPLOYMENTS, &self.deployment.meta, Some("status"), value));
        }
        if !resting {
            self.actions.extend(self.look_again());
        }
    }

    /// Everything asked for is there, and the status (as stored) says so.
    pub(super) fn complete(&self) -> bool {
        self.is_complete(&self.counts())
    }

    fn counts(&self) -> DeploymentStatus {
        let sum = |of: fn(&ReplicaSet) -> i64| self.all().map(of).sum::<i64>();
        let available = self.total_available();
        DeploymentStatus {
            observed_generation: self.deployment.meta.generation,
            replicas: sum(|set| set.status.replicas),
            updated_replicas: self.new.as_ref().map_or(0, |new| new.status.replicas),
            ready_replicas: sum(|set| set.status.ready_replicas),
            available_replicas: available,
            unavailable_replicas: (self.total_replicas() - available).max(0),
            collision_count: self.collisions,
            conditions: self.conditions.clone(),
        }
    }

    fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.deployment.replicas();
        status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
            && status.observed_generation >= self.deployment.meta.generation
    }

    fn note_progress(&mut self, status: &DeploymentStatus) {
        if !has_deadline(self) {
            self.conditions.retain(|c| c.type_ != PROGRESSING);
            return;
        }
        let current = condition(&self.conditions, PROGRESSING).cloned();
        let reason = current.as_ref().map(|c| c.reason.as_str()).unwrap_or_default();
        if status.replicas == status.updated_replicas && reason == DONE {
            return;
        }
        let of = match &self.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.meta.name),
            None => format!("Deployment \"{}\"", self.deployment.meta.name),
        };
        if self.is_complete(status) {
            set(self, PROGRESSING, "True", DONE, format!("{of} has successfully progressed."));
        } else if self.progressed(status) {
            // Always rewritten: lastUpdateTime is when the deadline starts anew.
            put(self, PROGRESSING, "True", "ReplicaSetUpdated", format!("{of} is progressing."), current.as_ref());
        } else if self.timed_out(current.as_ref()) {
            set(self, PROGRESSING, "False", TIMED_OUT, format!("{of} has timed out progressing."));
        }
    }

    /// Anything better than the stored status?
    fn progressed(&self, status: &DeploymentStatus) -> bool {
        let old = &self.deployment.status;
        status.updated_replicas > old.updated_replicas
            || status.replicas - status.updated_replicas < old.replicas - old.updated_replicas
            || status.ready_replicas > old.ready_replicas
            || status.available_replicas > old.available_replicas
    }

    fn timed_out(&self, current: Option<&Condition>) -> bool {
        match current {
            Some(c) if c.reason == DONE => false,
            Some(c) if c.reason == TIMED_OUT => true,
            Some(c) => self.deadline_left(c).is_some_and(|left| left < 0),
            None => false,
        }
    }

    /// Seconds until the deadline, counted from the last progress.
    fn deadline_left(&self, progressing: &Condition) -> Option<i64> {
        let since: jiff::Timestamp = progressing.last_update_time.as_deref()?.parse().ok()?;
        Some(since.as_second() + self.deployment.spec.progress_deadline_seconds? - self.now.as_second())
    }

    /// A rollout that is stuck changes nothing: come back when its deadline is over.
    fn look_again(&self) -> Option<Action> {
        let current = condition(&self.conditions, PROGRESSING)?;
        if !has_deadline(self) || current.reason == DONE || current.reason == TIMED_OUT {
            return None;
        }
        let left = u64::try_from(self.deadline_left(current)?).unwrap_or(0);
        Some(Action::RequeueAfter(Duration::from_secs(left + 1)))
    }

    /// A set that cannot make its pods makes the deployment say so.
    fn note_failure(&mut self) {
        let of = |set: &ReplicaSet| condition(&set.status.conditions, FAILURE).filter(|c| c.status == "True").cloned();
        match self.new.iter().chain(&self.old).find_map(of) {
            Some(failure) => set(self, FAILURE, "True", &failure.reason, failure.message),
            None => self.conditions.retain(|c| c.type_ != FAILURE),
        }
    }

    fn note_available(&mut self, status: &DeploymentStatus) {
        let enough = status.available_replicas >= self.deployment.replicas() - self.max_unavailable();
        if enough {
            let message = "Deployment has minimum availability.".to_owned();
            set(self, "Available", "True", "MinimumReplicasAvailable", message);
        } else {
            let message = "Deployment does not have minimum availability.".to_owned();
            set(self, "Available", "False", "MinimumReplicasUnavailable", message);
        }
    }
}
