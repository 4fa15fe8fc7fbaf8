//! The condition `DisruptionTarget`: says of a pod that the cluster, not its owner, ends it.

use jiff::Timestamp;

use crate::view::{Condition, Pod, rfc3339};

const TYPE: &str = "DisruptionTarget";

/// The pod's conditions with this one set.
pub(crate) fn with_disruption(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Vec<Condition> {
    let mut conditions = pod.status.conditions.clone();
    if conditions.iter().any(|c| c.type_ == TYPE && c.status == "True") {
        return conditions;
    }
    conditions.retain(|c| c.type_ != TYPE);
    conditions.push(Condition {
        type_: TYPE.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Some(rfc3339(now)),
        ..Condition::default()
    });
    conditions
}
