//! One round over a deployment: what is there, with the changes of this round already in it, and the actions so far.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{COMPONENT, DESIRED, MAX};
use crate::{
    action::{Action, Event, normal},
    resource,
    snapshot::Snapshot,
    template,
    view::{Condition, Deployment, ReplicaSet},
};

/// The state of one reconcile.
pub(crate) struct Plan<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) deployment: &'a Deployment,
    pub(super) now: Timestamp,
    /// The set with the deployment's template, if there is one.
    pub(super) new: Option<ReplicaSet>,
    /// All others, oldest first.
    pub(super) old: Vec<ReplicaSet>,
    /// Status conditions as they will be written.
    pub(super) conditions: Vec<Condition>,
    pub(super) collisions: Option<i64>,
    pub(super) actions: Vec<Action>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        deployment: &'a Deployment,
        sets: &[&Arc<ReplicaSet>],
        now: Timestamp,
    ) -> Self {
        let mut sets: Vec<ReplicaSet> = sets.iter().map(|set| ReplicaSet::clone(set)).collect();
        sets.sort_by_key(|set| (set.meta.created(), set.meta.name.clone()));
        let wanted = deployment.spec.template.value();
        // The oldest, if by bad luck there are several.
        let index = sets.iter().position(|set| template::same(&set.spec.template.value(), &wanted));
        let new = index.map(|index| sets.remove(index));
        Self {
            snapshot,
            deployment,
            now,
            new,
            old: sets,
            conditions: deployment.status.conditions.clone(),
            collisions: deployment.status.collision_count,
            actions: Vec::new(),
        }
    }

    /// All sets, old and new.
    pub(super) fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    /// Replicas asked of all sets together.
    pub(super) fn total_replicas(&self) -> i64 {
        self.all().map(ReplicaSet::replicas).sum()
    }

    /// Available pods of all sets together.
    pub(super) fn total_available(&self) -> i64 {
        self.all().map(|set| set.status.available_replicas).sum()
    }

    pub(super) fn max_surge(&self) -> i64 {
        self.fenceposts().0
    }

    /// How many pods may be missing; never more than there should be.
    pub(super) fn max_unavailable(&self) -> i64 {
        if !self.deployment.rolling() || self.deployment.replicas() == 0 {
            return 0;
        }
        self.fenceposts().1.min(self.deployment.replicas())
    }

    /// Surge rounds up, unavailable rounds down; both zero would never move, so one may then be missing.
    fn fenceposts(&self) -> (i64, i64) {
        if !self.deployment.rolling() {
            return (0, 0);
        }
        let update = &self.deployment.spec.strategy.rolling_update;
        let total = self.deployment.replicas();
        let surge = update.max_surge.as_ref().map_or(0, |v| v.scaled(total, true));
        let unavailable = update.max_unavailable.as_ref().map_or(0, |v| v.scaled(total, false));
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    /// Whether the deployment's size changed since its sets were last scaled.
    pub(super) fn is_scaling(&self) -> bool {
        let active = self.all().filter(|set| set.replicas() > 0);
        active
            .filter_map(|set| set.meta.annotation(DESIRED)?.parse::<i64>().ok())
            .any(|n| n != self.deployment.replicas())
    }

    /// Scales one of the sets, by its name.
    pub(super) fn scale(&mut self, name: &str, replicas: i64) {
        let (desired, max) = (self.deployment.replicas(), self.deployment.replicas() + self.max_surge());
        let Some(set) = self.old.iter_mut().chain(&mut self.new).find(|set| set.meta.name == name) else { return };
        let (desired, max) = (desired.to_string(), max.to_string());
        let annotated = set.meta.annotation(DESIRED) == Some(&desired) && set.meta.annotation(MAX) == Some(&max);
        let before = set.replicas();
        if before == replicas && annotated {
            return;
        }
        let patch = json!({
            "metadata": { "annotations": { DESIRED: desired, MAX: max } },
            "spec": { "replicas": replicas },
        });
        self.actions.push(Action::patch(resource::REPLICA_SETS, &set.meta, None, patch));
        set.spec.replicas = Some(replicas);
        set.meta.annotations.extend([(DESIRED.to_owned(), desired), (MAX.to_owned(), max)]);
        if before != replicas {
            let direction = if before < replicas { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
            self.event(false, "ScalingReplicaSet", message);
        }
    }

    pub(super) fn event(&mut self, warning: bool, reason: &'static str, message: String) {
        let involved = self.deployment.meta.involved("apps/v1", "Deployment");
        self.actions.push(Action::Event(Event { warning, ..normal(COMPONENT, involved, reason, message) }));
    }
}
