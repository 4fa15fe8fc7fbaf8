//! Deletes what is in a namespace that is being deleted, says in its conditions what remains, and finalizes it.
//! Upstream: pkg/controller/namespace/deletion. Pods go first, so that no workload outlives its policies and secrets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::{Action, Propagation},
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::{Item, Snapshot},
    view::{Condition, Namespace, condition, rfc3339},
};

/// The finalizer in `spec.finalizers` that this controller takes away.
const FINALIZER: &str = "kubernetes";
const NAME: &str = "namespace-controller";

pub(crate) const CONTROLLER: Controller =
    Controller { name: NAME, watches: &[], keys, reconcile, priority: None, concurrency: Concurrency::PerKey };

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    if &*change.resource == resource::NAMESPACES {
        return vec![change.key.clone()];
    }
    let namespace = &*change.key.namespace;
    let deleting = !namespace.is_empty()
        && snapshot.namespaces.named("", namespace).is_some_and(|namespace| namespace.meta.deleting());
    if deleting { vec![Key::new("", namespace)] } else { Vec::new() }
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(namespace) = snapshot.namespaces.get(key) else { return Vec::new() };
    if !namespace.meta.deleting() || !namespace.spec.finalizers.iter().any(|f| f == FINALIZER) {
        return Vec::new();
    }
    let mut items: Vec<&Item> = snapshot.indexes.in_namespace(&key.name).collect();
    items.sort_by(|a, b| (&a.resource, &a.key).cmp(&(&b.resource, &b.key)));
    let failure = snapshot.failure(NAME, key);
    let mut actions = Vec::new();
    actions.extend(status(namespace, &items, failure, now));
    if items.is_empty() {
        actions.push(Action::DeleteCollection { resource: resource::EVENTS.into(), namespace: key.name.to_string() });
        let rest: Vec<&String> = namespace.spec.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        let patch = json!({ "spec": { "finalizers": rest } });
        actions.push(Action::patch(resource::NAMESPACES, &namespace.meta, Some("finalize"), patch));
        return actions;
    }
    let is_pod = |item: &&&Item| &*item.resource == resource::PODS;
    let pods_only = items.iter().any(|item| is_pod(&item));
    let now_deleted = items.iter().filter(|item| !item.deleting && (!pods_only || is_pod(item)));
    actions.extend(now_deleted.map(|item| delete(item)));
    actions
}

fn delete(item: &Item) -> Action {
    let pod = &*item.resource == resource::PODS;
    Action::Delete {
        resource: item.resource.to_string().into(),
        namespace: item.key.namespace.to_string(),
        name: item.key.name.to_string(),
        uid: Some(item.uid.to_string()),
        resource_version: None,
        grace: None,
        propagation: (!pod).then_some(Propagation::Background),
    }
}

/// The phase and the five conditions, if they differ from what is there.
fn status(namespace: &Namespace, items: &[&Item], failure: Option<&str>, now: Timestamp) -> Option<Action> {
    let wanted = [
        said(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        said(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        match failure {
            Some(error) => said("NamespaceDeletionContentFailure", true, "ContentDeletionFailed", error),
            None => said(
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
        },
        remaining(items),
        finalizers(items),
    ];
    let mut conditions = namespace.status.conditions.clone();
    let mut changed = namespace.status.phase != "Terminating";
    for mut want in wanted {
        match conditions.iter_mut().find(|c| c.type_ == want.type_) {
            Some(have) if have.status == want.status && have.reason == want.reason && have.message == want.message => {}
            have => {
                changed = true;
                let kept = condition(&namespace.status.conditions, &want.type_).filter(|old| old.status == want.status);
                want.last_transition_time =
                    kept.and_then(|old| old.last_transition_time.clone()).or_else(|| Some(rfc3339(now)));
                match have {
                    Some(have) => *have = want,
                    None => conditions.push(want),
                }
            }
        }
    }
    changed.then(|| {
        let patch = json!({ "status": { "phase": "Terminating", "conditions": conditions } });
        Action::patch(resource::NAMESPACES, &namespace.meta, Some("status"), patch)
    })
}

fn said(type_: &str, status: bool, reason: &str, message: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Condition::default()
    }
}

fn remaining(items: &[&Item]) -> Condition {
    const TYPE: &str = "NamespaceContentRemaining";
    if items.is_empty() {
        return said(TYPE, false, "ContentRemoved", "All content successfully removed");
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for item in items {
        let (plural, group) = item.resource.split_once('.').unwrap_or((&item.resource, ""));
        *counts.entry(format!("{plural}.{group}")).or_default() += 1;
    }
    let texts: Vec<String> = counts.iter().map(|(r, n)| format!("{r} has {n} resource instances")).collect();
    said(TYPE, true, "SomeResourcesRemain", &format!("Some resources are remaining: {}", texts.join(", ")))
}

fn finalizers(items: &[&Item]) -> Condition {
    const TYPE: &str = "NamespaceFinalizersRemaining";
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finalizer in items.iter().flat_map(|item| &item.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    if counts.is_empty() {
        return said(TYPE, false, "ContentHasNoFinalizers", "All content-preserving finalizers finished");
    }
    let texts: Vec<String> = counts.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
    let message = format!("Some content in the namespace has finalizers remaining: {}", texts.join(", "));
    said(TYPE, true, "SomeFinalizersRemain", &message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    fn cluster(deleting: bool) -> Cluster {
        let mut cluster = Cluster::new();
        let mut namespace =
            json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        if deleting {
            namespace["metadata"]["deletionTimestamp"] = ago(1).into();
        }
        cluster.put("namespaces", namespace);
        cluster
    }

    fn run(cluster: &Cluster) -> Vec<String> {
        brief(&reconcile(&cluster.snapshot, &Key::new("", "ns"), NOW))
    }

    #[test]
    fn a_living_namespace_is_left_alone() {
        assert_eq!(run(&cluster(false)), Vec::<String>::new());
    }

    #[test]
    fn pods_go_first_then_the_rest_then_the_namespace() {
        let mut cluster = cluster(true);
        cluster.put("pods", json!({"metadata": {"name": "p", "finalizers": ["x/y"]}}));
        cluster.put("configmaps", json!({"metadata": {"name": "c"}}));
        let first = run(&cluster);
        assert!(first[0].contains(
            "Some resources are remaining: configmaps. has 1 resource instances, pods. has 1 resource instances"
        ));
        assert!(first[0].contains("x/y in 1 resource instances"));
        assert_eq!(first[1..], ["delete pods p"]);
        cluster.remove("pods", "ns", "p");
        assert_eq!(run(&cluster)[1..], ["delete configmaps c Background"]);
        cluster.remove("configmaps", "ns", "c");
        let last = run(&cluster);
        assert!(last[0].contains("ContentRemoved"));
        assert_eq!(
            last[1..],
            ["delete all events in ns", r#"patch namespaces ns/finalize {"spec":{"finalizers":[]}}"#]
        );
    }

    #[test]
    fn what_is_being_deleted_is_not_deleted_again() {
        let mut cluster = cluster(true);
        let change = cluster.put("pods", json!({"metadata": {"name": "p", "deletionTimestamp": ago(1)}})).unwrap();
        assert!(!run(&cluster).iter().any(|a| a.starts_with("delete")));
        assert_eq!(keys(&cluster.snapshot, &change), [Key::new("", "ns")]);
    }
}
