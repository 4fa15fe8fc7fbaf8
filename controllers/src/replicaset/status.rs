//! The status of a ReplicaSet.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::Action,
    template,
    view::{Condition, Pod, ReplicaSet, ReplicaSetStatus, contains_all, rfc3339},
};

const FAILURE: &str = "ReplicaFailure";

/// Writes the status if it differs from what is there.
pub(super) fn update(set: &ReplicaSet, active: &[&Arc<Pod>], failure: Option<&str>, now: Timestamp) -> Option<Action> {
    let labels = template::labels(&set.spec.template.value());
    let count =
        |test: &dyn Fn(&Pod) -> bool| i64::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i64::MAX);
    let wanted = ReplicaSetStatus {
        observed_generation: set.meta.generation,
        replicas: count(&|_| true),
        fully_labeled_replicas: count(&|pod| contains_all(&pod.meta.labels, &labels)),
        ready_replicas: count(&Pod::ready),
        available_replicas: count(&|pod| pod.available(set.spec.min_ready_seconds, now)),
        conditions: conditions(set, active.len(), failure, now),
    };
    if wanted == set.status {
        return None;
    }
    let mut status = json!({
        "availableReplicas": wanted.available_replicas,
        "fullyLabeledReplicas": wanted.fully_labeled_replicas,
        "observedGeneration": wanted.observed_generation,
        "readyReplicas": wanted.ready_replicas,
        "replicas": wanted.replicas,
    });
    if wanted.conditions != set.status.conditions {
        status["conditions"] = json!(wanted.conditions);
    }
    Some(Action::patch(set.resource(), &set.meta, Some("status"), json!({ "status": status })))
}

fn conditions(set: &ReplicaSet, active: usize, failure: Option<&str>, now: Timestamp) -> Vec<Condition> {
    let mut conditions = set.status.conditions.clone();
    match failure {
        None => conditions.retain(|c| c.type_ != FAILURE),
        Some(_) if conditions.iter().any(|c| c.type_ == FAILURE) => {}
        Some(error) => {
            let wanted = usize::try_from(set.replicas()).unwrap_or(0);
            let reason = if active < wanted { "FailedCreate" } else { "FailedDelete" };
            conditions.push(Condition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(rfc3339(now)),
                reason: reason.to_owned(),
                message: error.to_owned(),
                ..Condition::default()
            });
        }
    }
    conditions
}

/// With minReadySeconds, a ready pod becomes available by time alone: when to look.
pub(super) fn look_again(set: &ReplicaSet, active: &[&Arc<Pod>], now: Timestamp) -> Option<Action> {
    let wait = set.spec.min_ready_seconds;
    if wait == 0 {
        return None;
    }
    let waiting = active.iter().filter(|pod| pod.ready() && !pod.available(wait, now));
    let first = waiting.filter_map(|pod| pod.ready_since()).min()?;
    let left = first.as_second() + wait - now.as_second();
    Some(Action::RequeueAfter(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1))))
}
