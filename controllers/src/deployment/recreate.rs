//! Recreate: no pod of the new template before the last old one is gone. Upstream: recreate.go.

use super::{Plan, sets};
use crate::resource;

/// One step.
pub(super) fn roll(plan: &mut Plan<'_>) {
    sets::sync_new(plan, false);
    let active: Vec<String> =
        plan.old.iter().filter(|set| set.replicas() > 0).map(|set| set.meta.name.clone()).collect();
    if !active.is_empty() {
        for name in active {
            plan.scale(&name, 0);
        }
    } else if !old_pods_run(plan) {
        match plan.new.as_ref().map(|new| new.meta.name.clone()) {
            Some(name) => plan.scale(&name, plan.deployment.replicas()),
            None => {
                sets::sync_new(plan, true);
            }
        }
    }
    plan.finish();
    if plan.complete() {
        sets::clean_up(plan);
    }
}

/// Also those that are being deleted count: they still run.
fn old_pods_run(plan: &Plan<'_>) -> bool {
    plan.old.iter().any(|set| {
        let pods = plan.snapshot.owned(&set.meta.uid, resource::PODS, &plan.snapshot.pods);
        pods.iter().any(|pod| !pod.terminated())
    })
}
