//! RollingUpdate: up by maxSurge, down by maxUnavailable, never below the floor. Upstream: rolling.go.

use super::{Plan, sets};
use crate::view::ReplicaSet;

/// One step.
pub(super) fn roll(plan: &mut Plan<'_>) {
    if sets::sync_new(plan, true) {
        // Made at its first size; the rest follows once it is seen.
        plan.finish();
        return;
    }
    if !grow_new(plan) {
        shrink_old(plan);
    }
    plan.finish();
    if plan.complete() {
        sets::clean_up(plan);
    }
}

/// Whether the new set changed its size.
fn grow_new(plan: &mut Plan<'_>) -> bool {
    let Some(new) = &plan.new else { return false };
    let (name, has, wanted) = (new.meta.name.clone(), new.replicas(), plan.deployment.replicas());
    let size = match has.cmp(&wanted) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => wanted,
        std::cmp::Ordering::Less => sets::room_for_new(plan, has),
    };
    plan.scale(&name, size);
    size != has
}

/// First what does not work anyway, then what works, as far as the floor of available pods allows.
fn shrink_old(plan: &mut Plan<'_>) {
    if plan.old.iter().map(ReplicaSet::replicas).sum::<i64>() == 0 {
        return;
    }
    let floor = plan.deployment.replicas() - plan.max_unavailable();
    let new_unavailable = plan.new.as_ref().map_or(0, |new| new.replicas() - new.status.available_replicas);
    let spare = plan.total_replicas() - floor - new_unavailable;
    if spare <= 0 {
        return;
    }
    let mut budget = spare;
    let sizes = |plan: &Plan<'_>| -> Vec<(String, i64, i64)> {
        let old = plan.old.iter().filter(|set| set.replicas() > 0);
        old.map(|set| (set.meta.name.clone(), set.replicas(), set.status.available_replicas)).collect()
    };
    for (name, replicas, available) in sizes(plan) {
        let down = budget.min(replicas - available).max(0);
        if down > 0 {
            plan.scale(&name, replicas - down);
            budget -= down;
        }
    }
    let mut budget = plan.total_available() - floor;
    for (name, replicas, _) in sizes(plan) {
        let down = budget.min(replicas);
        if down <= 0 {
            break;
        }
        plan.scale(&name, replicas - down);
        budget -= down;
    }
}
