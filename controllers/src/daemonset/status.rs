//! The status of a DaemonSet.

use std::time::Duration;

use serde_json::json;

use super::{Round, update::is_new};
use crate::{
    action::Action,
    resource,
    view::{DaemonSetStatus, Pod},
};

/// Writes the status if it differs.
pub(super) fn update(round: &Round<'_>) -> Option<Action> {
    let mut wanted = DaemonSetStatus {
        observed_generation: round.set.meta.generation,
        collision_count: round.set.status.collision_count,
        conditions: round.set.status.conditions.clone(),
        ..DaemonSetStatus::default()
    };
    for (node, place) in &round.nodes {
        let mut pods: Vec<&Pod> = round.on(&node.meta.name).iter().map(|pod| &***pod).collect();
        if !place.runs {
            wanted.number_misscheduled += i64::from(!pods.is_empty());
            continue;
        }
        wanted.desired_number_scheduled += 1;
        // With a surge there are two: the older one counts, for all of the columns, as upstream does.
        pods.sort_by_key(|pod| (pod.spec.node_name.is_empty(), pod.meta.created(), pod.meta.name.clone()));
        let Some(pod) = pods.first() else { continue };
        wanted.current_number_scheduled += 1;
        wanted.number_ready += i64::from(pod.ready());
        wanted.number_available += i64::from(pod.available(round.set.spec.min_ready_seconds, round.now));
        wanted.updated_number_scheduled += i64::from(is_new(pod, &round.hash));
    }
    wanted.number_unavailable = wanted.desired_number_scheduled - wanted.number_available;
    (wanted != round.set.status).then(|| {
        let status = json!({
            "observedGeneration": wanted.observed_generation,
            "currentNumberScheduled": wanted.current_number_scheduled,
            "desiredNumberScheduled": wanted.desired_number_scheduled,
            "numberMisscheduled": wanted.number_misscheduled,
            "numberReady": wanted.number_ready,
            "numberAvailable": wanted.number_available,
            "numberUnavailable": wanted.number_unavailable,
            "updatedNumberScheduled": wanted.updated_number_scheduled,
        });
        Action::patch(resource::DAEMON_SETS, &round.set.meta, Some("status"), json!({ "status": status }))
    })
}

/// A ready pod becomes available by time alone.
pub(super) fn look_again(round: &Round<'_>) -> Option<Action> {
    let wait = round.set.spec.min_ready_seconds;
    let waiting =
        round.pods.values().flatten().filter(|pod| pod.ready() && !round.available(pod) && !pod.meta.deleting());
    let first = waiting.filter_map(|pod| pod.ready_since()).min()?;
    let left = first.as_second() + wait - round.now.as_second();
    Some(Action::RequeueAfter(Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1))))
}
