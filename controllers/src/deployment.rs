//! Deployments: one ReplicaSet per template, and the way from the old ones to the new one.
//! Upstream: pkg/controller/deployment, file by file: `rolling`, `recreate`, `sync` (scaling), `progress` (status).

mod plan;
mod progress;
mod recreate;
mod rolling;
mod scale;
mod sets;

use jiff::Timestamp;

use crate::{
    action::{Action, warning},
    controller::{Change, Concurrency, Controller, Key},
    ownership::Owner,
    resource,
    snapshot::Snapshot,
    view::{Deployment, Object, ReplicaSet},
};

pub(crate) use plan::Plan;

const COMPONENT: &str = "deployment-controller";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";

pub(crate) const CONTROLLER: Controller = Controller {
    name: COMPONENT,
    watches: &[resource::DEPLOYMENTS, resource::REPLICA_SETS, resource::PODS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match &*change.resource {
        resource::DEPLOYMENTS => vec![change.key.clone()],
        resource::REPLICA_SETS => {
            let sets = [&change.old, &change.new].into_iter().flatten().map(Object::meta);
            let mut keys: Vec<Key> = sets
                .filter_map(|meta| meta.controlled_by_kind("Deployment"))
                .map(|owner| Key::new(change.key.namespace.clone(), owner.name.as_str()))
                .collect();
            keys.dedup();
            if let Some(Object::ReplicaSet(set)) = &change.new
                && set.meta.controller().is_none()
            {
                let all = snapshot.deployments.in_namespace(&change.key.namespace);
                keys.extend(all.filter(|d| d.spec.selector.matches(&set.meta.labels)).map(|d| d.meta.key()));
            }
            keys
        }
        // Recreate waits for the last old pod to go.
        _ => gone_pod(snapshot, change).into_iter().collect(),
    }
}

fn gone_pod(snapshot: &Snapshot, change: &Change) -> Option<Key> {
    let Some(Object::Pod(pod)) = &change.old else { return None };
    if matches!(&change.new, Some(Object::Pod(new)) if !new.terminated()) {
        return None;
    }
    let set = snapshot.indexes.by_uid(&pod.meta.controlled_by_kind("ReplicaSet")?.uid)?;
    let owner = set.owners.iter().find(|owner| owner.controller && owner.kind == "Deployment")?;
    let deployment = snapshot.deployments.named(&pod.meta.namespace, &owner.name)?;
    (!deployment.rolling()).then(|| deployment.meta.key())
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(deployment) = snapshot.deployments.get(key) else { return Vec::new() };
    if deployment.spec.selector.is_empty() {
        return selects_all(deployment);
    }
    let owner = Owner {
        meta: &deployment.meta,
        api_version: "apps/v1",
        kind: "Deployment",
        selector: &deployment.spec.selector,
    };
    let owned = snapshot.owned(&deployment.meta.uid, resource::REPLICA_SETS, &snapshot.replica_sets);
    let orphans = snapshot.orphans(&key.namespace, resource::REPLICA_SETS, &snapshot.replica_sets);
    let (sets, writes) = owner.claim(resource::REPLICA_SETS, owned, orphans, |set: &ReplicaSet| &set.meta);
    if !writes.is_empty() {
        return writes;
    }
    let mut plan = Plan::new(snapshot, deployment, &sets, now);
    if deployment.meta.deleting() {
        plan.finish();
        return plan.actions;
    }
    plan.note_pause();
    if deployment.spec.paused || plan.is_scaling() {
        scale::sync(&mut plan);
    } else if deployment.rolling() {
        rolling::roll(&mut plan);
    } else {
        recreate::roll(&mut plan);
    }
    plan.actions
}

fn selects_all(deployment: &Deployment) -> Vec<Action> {
    let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
    let involved = deployment.meta.involved("apps/v1", "Deployment");
    let mut actions = vec![Action::Event(warning(COMPONENT, involved, "SelectingAll", message))];
    if deployment.status.observed_generation < deployment.meta.generation {
        let patch = serde_json::json!({ "status": { "observedGeneration": deployment.meta.generation } });
        actions.push(Action::patch(resource::DEPLOYMENTS, &deployment.meta, Some("status"), patch));
    }
    actions
}

#[cfg(test)]
mod tests;
