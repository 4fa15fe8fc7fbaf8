//! The templates that a DaemonSet had, as ControllerRevisions: what `kubectl rollout history` and `undo` read.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Value, json};

use super::HASH_LABEL;
use crate::{
    action::Action,
    controller::Key,
    ownership::Owner,
    resource,
    snapshot::Snapshot,
    template,
    view::{ControllerRevision, DaemonSet, Pod},
};

/// The revisions of a set.
pub(super) struct Revisions<'a> {
    /// Of the current template.
    pub(super) hash: String,
    /// What must be written before pods can be made.
    pub(super) writes: Vec<Action>,
    old: Vec<&'a Arc<ControllerRevision>>,
}

impl<'a> Revisions<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, set: &DaemonSet, wanted: &Value) -> Self {
        let mut all = snapshot.owned(&set.meta.uid, resource::CONTROLLER_REVISIONS, &snapshot.revisions);
        all.sort_by_key(|revision| revision.revision);
        let newest = all.last().map_or(0, |revision| revision.revision);
        let current = all.iter().rposition(|revision| template::same(&recorded(revision), wanted));
        let Some(index) = current else {
            let (hash, create) = create(snapshot, set, wanted, newest + 1);
            return Self { hash, writes: vec![create], old: all };
        };
        let revision = all.remove(index);
        let hash = revision.meta.label(HASH_LABEL).unwrap_or_default().to_owned();
        let mut writes = Vec::new();
        if revision.revision < newest {
            // An undo: the old template is the newest revision now.
            let patch = json!({ "revision": newest + 1 });
            writes.push(Action::patch_exact(resource::CONTROLLER_REVISIONS, &revision.meta, None, patch));
        }
        Self { hash, writes, old: all }
    }
}

/// The template that a revision holds: a strategic merge patch that replaces it.
fn recorded(revision: &ControllerRevision) -> Value {
    let mut template = revision.data.value()["spec"]["template"].take();
    if let Some(map) = template.as_object_mut() {
        map.shift_remove("$patch");
    }
    template
}

fn create(snapshot: &Snapshot, set: &DaemonSet, wanted: &Value, number: i64) -> (String, Action) {
    let name = |salt: i64| {
        let hash = template::hash(wanted, salt);
        (format!("{}-{hash}", set.meta.name), hash)
    };
    let taken = |name: &str| {
        let key = Key::new(set.meta.namespace.as_str(), name);
        snapshot.indexes.item(resource::CONTROLLER_REVISIONS, &key).is_some()
    };
    let first = set.status.collision_count.unwrap_or(0);
    let (name, hash) = (first..).map(name).find(|(name, _)| !taken(name)).expect("some salt is free");
    let owner = Owner { meta: &set.meta, api_version: "apps/v1", kind: "DaemonSet", selector: &set.spec.selector };
    let mut labels = template::labels(wanted);
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let mut recorded = wanted.clone();
    recorded["$patch"] = "replace".into();
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": set.meta.namespace,
            "labels": labels,
            "annotations": set.meta.annotations,
            "ownerReferences": [owner.reference()],
        },
        "data": { "spec": { "template": recorded } },
        "revision": number,
    });
    let namespace = set.meta.namespace.clone();
    (hash, Action::Create { resource: resource::CONTROLLER_REVISIONS.into(), namespace, object })
}

/// Deletes the oldest revisions beyond the limit that no pod carries.
pub(super) fn clean_up(revisions: &Revisions<'_>, set: &DaemonSet, pods: &[&Arc<Pod>]) -> Vec<Action> {
    let limit = usize::try_from(set.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let live: HashSet<&str> = pods.iter().filter_map(|pod| pod.meta.label(HASH_LABEL)).collect();
    let idle = revisions.old.iter().filter(|r| r.meta.label(HASH_LABEL).is_none_or(|hash| !live.contains(hash)));
    let excess = revisions.old.len().saturating_sub(limit);
    idle.take(excess).map(|r| Action::delete(resource::CONTROLLER_REVISIONS, &r.meta)).collect()
}
