//! The ReplicaSet of the current template: found or made, and its revision kept. Also the end of old ones.

use serde_json::{Map, Value, json};

use super::{COMPONENT, DESIRED, MAX, Plan, REVISION, REVISION_HISTORY, progress};
use crate::{
    action::{Action, warning},
    ownership::Owner,
    resource, template,
    view::{Meta, ReplicaSet},
};

/// Annotations of a deployment that its sets do not inherit.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Longest revision history kept, in bytes.
const HISTORY_LIMIT: usize = 2000;

/// Keeps annotations of the new set and the deployment's revision; makes the set if `create`. Returns whether the set was made now.
pub(super) fn sync_new(plan: &mut Plan<'_>, create: bool) -> bool {
    let revision = plan.old.iter().map(|set| number(&set.meta)).max().unwrap_or(0) + 1;
    if plan.new.is_some() {
        keep(plan, revision);
        return false;
    }
    create && make(plan, revision)
}

fn number(meta: &Meta) -> i64 {
    meta.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// An existing new set: annotations, minReadySeconds, revision.
fn keep(plan: &mut Plan<'_>, revision: i64) {
    let deployment = plan.deployment;
    let Some(set) = &mut plan.new else { return };
    let mut changed: Map<String, Value> = inherited(&deployment.meta)
        .filter(|(name, value)| set.meta.annotation(name) != Some(value))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let own = number(&set.meta);
    if own < revision {
        changed.insert(REVISION.to_owned(), revision.to_string().into());
        if own > 0 {
            let history = match set.meta.annotation(REVISION_HISTORY) {
                Some(history) if history.len() + 12 < HISTORY_LIMIT => format!("{history},{own}"),
                _ => own.to_string(),
            };
            changed.insert(REVISION_HISTORY.to_owned(), history.into());
        }
    }
    let min_ready = set.spec.min_ready_seconds != deployment.spec.min_ready_seconds;
    if !changed.is_empty() || min_ready {
        for (name, value) in &changed {
            set.meta.annotations.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        let patch = json!({
            "metadata": { "annotations": changed },
            "spec": { "minReadySeconds": deployment.spec.min_ready_seconds },
        });
        plan.actions.push(Action::patch(resource::REPLICA_SETS, &set.meta, None, patch));
    }
    let revision = set.meta.annotation(REVISION).unwrap_or_default().to_owned();
    let name = set.meta.name.clone();
    note_revision(plan, &revision);
    progress::found(plan, &name);
}

/// The deployment shows the revision of its new set.
fn note_revision(plan: &mut Plan<'_>, revision: &str) {
    if plan.deployment.meta.annotation(REVISION) != Some(revision) {
        let patch = json!({ "metadata": { "annotations": { REVISION: revision } } });
        plan.actions.push(Action::patch(resource::DEPLOYMENTS, &plan.deployment.meta, None, patch));
    }
}

/// A new set for the current template, at the size that the strategy allows.
fn make(plan: &mut Plan<'_>, revision: i64) -> bool {
    let deployment = plan.deployment;
    let mut pods = deployment.spec.template.value();
    let hash = template::hash(&pods, plan.collisions.unwrap_or(0));
    let name = format!("{}-{hash}", deployment.meta.name);
    let taken = crate::controller::Key::new(deployment.meta.namespace.as_str(), name.as_str());
    if plan.snapshot.indexes.item(resource::REPLICA_SETS, &taken).is_some() {
        // Another template, or another owner's set: the same hash with another salt.
        plan.collisions = Some(plan.collisions.unwrap_or(0) + 1);
        return false;
    }
    template::set_label(&mut pods, template::HASH_LABEL, &hash);
    let mut selector = json!(deployment.spec.selector);
    selector["matchLabels"][template::HASH_LABEL] = hash.as_str().into();
    let replicas = room_for_new(plan, 0);
    let max = deployment.replicas() + plan.max_surge();
    let mut annotations: Map<String, Value> =
        inherited(&deployment.meta).map(|(name, value)| (name.to_owned(), value.into())).collect();
    annotations.insert(REVISION.to_owned(), revision.to_string().into());
    annotations.insert(DESIRED.to_owned(), deployment.replicas().to_string().into());
    annotations.insert(MAX.to_owned(), max.to_string().into());
    let owner = Owner {
        meta: &deployment.meta,
        api_version: "apps/v1",
        kind: "Deployment",
        selector: &deployment.spec.selector,
    };
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": deployment.meta.namespace,
            "labels": pods["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": pods,
        },
    });
    plan.new = serde_json::from_str::<ReplicaSet>(&object.to_string()).ok();
    let namespace = deployment.meta.namespace.clone();
    plan.actions.push(Action::Create { resource: resource::REPLICA_SETS.into(), namespace, object });
    let failed = format!("Failed to create new replica set \"{name}\": ");
    let involved = deployment.meta.involved("apps/v1", "Deployment");
    plan.actions.push(Action::IfFailed(warning(COMPONENT, involved, "ReplicaSetCreateError", failed)));
    if replicas > 0 {
        plan.event(false, "ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {replicas}"));
    }
    note_revision(plan, &revision.to_string());
    progress::created(plan, &name);
    true
}

/// How many pods the new set may have, given that it has some already (upstream's NewRSNewReplicas).
pub(super) fn room_for_new(plan: &Plan<'_>, has: i64) -> i64 {
    let wanted = plan.deployment.replicas();
    if !plan.deployment.rolling() {
        return wanted;
    }
    let room = wanted + plan.max_surge() - plan.total_replicas();
    if room <= 0 {
        return has;
    }
    has + room.min(wanted - has)
}

fn inherited(meta: &Meta) -> impl Iterator<Item = (&str, &str)> {
    meta.annotations
        .iter()
        .filter(|(name, _)| !NOT_COPIED.contains(&name.as_str()))
        .map(|(k, v)| (k.as_str(), v.as_str()))
}

/// Deletes the oldest sets that are empty, beyond the history that the user wants.
pub(super) fn clean_up(plan: &mut Plan<'_>) {
    let Some(limit) = plan.deployment.spec.revision_history_limit else { return };
    let mut sets: Vec<&ReplicaSet> = plan.old.iter().filter(|set| !set.meta.deleting()).collect();
    let excess = sets.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    sets.sort_by_key(|set| (number(&set.meta), set.meta.created()));
    let empty = |set: &&ReplicaSet| {
        set.status.replicas == 0 && set.replicas() == 0 && set.meta.generation <= set.status.observed_generation
    };
    let deletes: Vec<Action> = sets[..excess]
        .iter()
        .copied()
        .filter(empty)
        .map(|set| Action::delete(resource::REPLICA_SETS, &set.meta))
        .collect();
    plan.actions.extend(deletes);
}
