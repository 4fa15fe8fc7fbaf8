//! Clusters for tests, from JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    action::Action,
    controller::{Change, Key},
    settings::Settings,
    snapshot::{Kind, Snapshot},
};

/// The time at which tests reconcile: 2026-01-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

pub(crate) fn ago(seconds: i64) -> String {
    crate::view::rfc3339(NOW - jiff::SignedDuration::from_secs(seconds))
}

pub(crate) struct Cluster {
    pub(crate) snapshot: Snapshot,
    revision: u64,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut snapshot = Snapshot::new(settings);
        snapshot.tick(Duration::from_secs(3600));
        let kind = |resource: &str, api_version: &str, kind: &str, namespaced| Kind {
            resource: resource.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespaced,
        };
        snapshot.set_kinds(vec![
            kind("pods", "v1", "Pod", true),
            kind("nodes", "v1", "Node", false),
            kind("replicasets.apps", "apps/v1", "ReplicaSet", true),
            kind("deployments.apps", "apps/v1", "Deployment", true),
            kind("configmaps", "v1", "ConfigMap", true),
        ]);
        Self { snapshot, revision: 0 }
    }

    /// Adds or changes an object. A missing uid becomes `uid-<name>`; namespaced kinds default to namespace `ns`.
    pub(crate) fn put(&mut self, resource: &str, mut object: Value) -> Option<Change> {
        self.revision += 1;
        let cluster_scoped = matches!(resource, "nodes" | "namespaces");
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        let name = metadata["name"].as_str().expect("a name").to_owned();
        metadata.entry("uid").or_insert_with(|| format!("uid-{name}").into());
        if !cluster_scoped {
            metadata.entry("namespace").or_insert_with(|| "ns".into());
        }
        metadata.insert("resourceVersion".to_owned(), self.revision.to_string().into());
        let bytes = object.to_string();
        self.snapshot.apply(resource, bytes.as_bytes(), self.revision, false).expect("readable")
    }

    pub(crate) fn remove(&mut self, resource: &str, namespace: &str, name: &str) -> Option<Change> {
        self.snapshot.remove(resource, &Key::new(namespace, name))
    }
}

pub(crate) fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-{name}"), "controller": true, "blockOwnerDeletion": true}])
}

/// Actions in one line each, for comparing.
pub(crate) fn brief(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Create { resource, object, .. } => {
                format!("create {resource} {}", object["metadata"]["name"].as_str().unwrap_or("?"))
            }
            Action::Update { resource, name, .. } => format!("update {resource} {name}"),
            Action::Patch { resource, name, subresource, patch, .. } => {
                format!("patch {resource} {name}{} {patch}", subresource.map(|s| format!("/{s}")).unwrap_or_default())
            }
            Action::Delete { resource, name, grace, propagation, .. } => format!(
                "delete {resource} {name}{}{}",
                grace.map(|g| format!(" grace={g}")).unwrap_or_default(),
                propagation.map(|p| format!(" {}", p.as_str())).unwrap_or_default(),
            ),
            Action::DeleteCollection { resource, namespace } => format!("delete all {resource} in {namespace}"),
            Action::Bind { pod, node, .. } => format!("bind {pod} to {node}"),
            Action::Event(e) => format!("event {} {} {}: {}", e.type_(), e.involved.name, e.reason, e.message),
            Action::IfFailed(e) => format!("if failed {}", e.reason),
            Action::RequeueAfter(after) => format!("again in {}s", after.as_secs()),
        })
        .collect()
}
