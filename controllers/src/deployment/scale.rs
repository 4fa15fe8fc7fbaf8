//! A change of size, also while paused: no set is made, the size is spread over those that run in proportion.
//! Upstream: sync.go.

use super::{MAX, Plan, sets};
use crate::view::ReplicaSet;

/// Scales what is there.
pub(super) fn sync(plan: &mut Plan<'_>) {
    sets::sync_new(plan, false);
    spread(plan);
    let paused = plan.deployment.spec.paused;
    plan.finish();
    if paused {
        sets::clean_up(plan);
    }
}

fn spread(plan: &mut Plan<'_>) {
    let wanted = plan.deployment.replicas();
    if let Some(name) = only_active(plan) {
        plan.scale(&name, wanted);
        return;
    }
    let saturated = plan.new.as_ref().is_some_and(|new| {
        let desired: Option<i64> = new.meta.annotation(super::DESIRED).and_then(|text| text.parse().ok());
        new.replicas() == wanted && desired == Some(wanted) && new.status.available_replicas == wanted
    });
    if saturated {
        let old: Vec<String> =
            plan.old.iter().filter(|set| set.replicas() > 0).map(|set| set.meta.name.clone()).collect();
        for name in old {
            plan.scale(&name, 0);
        }
    } else if plan.deployment.rolling() {
        proportional(plan);
    }
}

/// The only set with pods; if none has, the new one, else the newest.
fn only_active(plan: &Plan<'_>) -> Option<String> {
    let mut active = plan.all().filter(|set| set.replicas() > 0);
    match (active.next(), active.next()) {
        (Some(only), None) => Some(only.meta.name.clone()),
        (None, _) => plan.new.as_ref().or(plan.old.last()).map(|set| set.meta.name.clone()),
        _ => None,
    }
}

/// Each set gets its share of what is added or taken; rounding goes to the largest.
fn proportional(plan: &mut Plan<'_>) {
    let wanted = plan.deployment.replicas();
    let max = if wanted > 0 { wanted + plan.max_surge() } else { 0 };
    let mut active: Vec<ReplicaSet> = plan.all().filter(|set| set.replicas() > 0).cloned().collect();
    let to_add = max - active.iter().map(ReplicaSet::replicas).sum::<i64>();
    // Larger first; among equals the newer first when adding, the older first when taking.
    active.sort_by(|a, b| {
        let age = a.meta.created().cmp(&b.meta.created());
        b.replicas().cmp(&a.replicas()).then(if to_add > 0 { age.reverse() } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<(String, i64)> = Vec::new();
    for set in &active {
        let mut size = set.replicas();
        if to_add != 0 {
            let share = share(plan, set, to_add, added);
            size += share;
            added += share;
        }
        sizes.push((set.meta.name.clone(), size));
    }
    if let Some((_, first)) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (name, size) in sizes {
        plan.scale(&name, size);
    }
}

fn share(plan: &Plan<'_>, set: &ReplicaSet, to_add: i64, added: i64) -> i64 {
    let left = to_add - added;
    if set.replicas() == 0 || left == 0 {
        return 0;
    }
    let fraction = fraction(plan, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how much this set would change if it kept its part of the whole.
fn fraction(plan: &Plan<'_>, set: &ReplicaSet) -> i64 {
    let wanted = plan.deployment.replicas();
    if wanted == 0 {
        return -set.replicas();
    }
    let max = wanted + plan.max_surge();
    let before = set.meta.annotation(MAX).and_then(|text| text.parse().ok()).unwrap_or(plan.deployment.status.replicas);
    if before == 0 {
        return 0;
    }
    // Rounded half up, as Go's math.Round does for positive numbers.
    (2 * set.replicas() * max + before).div_euclid(2 * before) - set.replicas()
}
