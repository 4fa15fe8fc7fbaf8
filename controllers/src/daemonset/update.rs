//! Replaces pods of older templates: by deleting them (maxUnavailable), or by a second pod on the node first (maxSurge).

use super::{HASH_LABEL, Round};
use crate::view::{DaemonSet, IntOrString, Pod};

/// Whether a pod is of the current template.
pub(super) fn is_new(pod: &Pod, hash: &str) -> bool {
    pod.meta.label(HASH_LABEL) == Some(hash)
}

/// How many nodes may have two pods for a while.
pub(super) fn max_surge(set: &DaemonSet, nodes: usize) -> i64 {
    scaled(set.spec.update_strategy.rolling_update.max_surge.as_ref(), nodes, 0)
}

fn max_unavailable(set: &DaemonSet, nodes: usize) -> i64 {
    scaled(set.spec.update_strategy.rolling_update.max_unavailable.as_ref(), nodes, 1)
}

fn scaled(value: Option<&IntOrString>, nodes: usize, default: i64) -> i64 {
    let total = i64::try_from(nodes).unwrap_or(i64::MAX);
    value.map_or(default, |value| value.scaled(total, true))
}

/// One step of a rolling update.
pub(super) fn replace(round: &mut Round<'_>) {
    if round.set.spec.update_strategy.type_ == "OnDelete" {
        return;
    }
    let wanted = round.nodes.iter().filter(|(_, place)| place.runs).count();
    let surge = max_surge(round.set, wanted);
    if surge > 0 { with_surge(round, surge) } else { without_surge(round, max_unavailable(round.set, wanted)) }
}

fn without_surge(round: &mut Round<'_>, max_unavailable: i64) {
    let (mut unavailable, mut at_once, mut candidates) = (0, Vec::new(), Vec::new());
    for (node, _) in round.nodes.iter().filter(|(_, place)| place.runs) {
        let pods = round.on(&node.meta.name);
        let old = pods.iter().find(|pod| !is_new(pod, &round.hash));
        let new = pods.iter().find(|pod| is_new(pod, &round.hash));
        match (old, new) {
            (None, Some(new)) if round.available(new) => {}
            (Some(old), None) if old.meta.deleting() => unavailable += 1,
            (Some(old), None) if round.available(old) => candidates.push(*old),
            (Some(old), None) => {
                // It does not work anyway.
                at_once.push(*old);
                unavailable += 1;
            }
            _ => unavailable += 1,
        }
    }
    let budget = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
    for pod in at_once.into_iter().chain(candidates.into_iter().take(budget)) {
        round.delete(pod);
    }
}

fn with_surge(round: &mut Round<'_>, max_surge: i64) {
    let (mut surging, mut at_once, mut candidates, mut done) = (0, Vec::new(), Vec::new(), Vec::new());
    for (node, _) in round.nodes.iter().filter(|(_, place)| place.runs) {
        let pods = round.on(&node.meta.name);
        let old = pods.iter().find(|pod| !is_new(pod, &round.hash));
        let new = pods.iter().find(|pod| is_new(pod, &round.hash));
        match (old, new) {
            (Some(old), None) if old.meta.deleting() || !round.available(old) => at_once.push(node.meta.name.clone()),
            (Some(_), None) => candidates.push(node.meta.name.clone()),
            (Some(old), Some(new)) if round.available(new) && !old.meta.deleting() => done.push(*old),
            (Some(_), Some(_)) => surging += 1,
            _ => {}
        }
    }
    done.into_iter().for_each(|pod| round.delete(pod));
    let budget = usize::try_from(max_surge - surging).unwrap_or(0);
    at_once.into_iter().chain(candidates.into_iter().take(budget)).for_each(|node| round.create(&node));
}

impl Round<'_> {
    pub(super) fn available(&self, pod: &Pod) -> bool {
        !pod.meta.deleting() && pod.available(self.set.spec.min_ready_seconds, self.now)
    }
}
