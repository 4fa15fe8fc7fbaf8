//! Deletes objects whose owners are gone, and carries out foreground and orphaning deletion.
//! Upstream: pkg/controller/garbagecollector. Works on every kind that the server serves; its keys are uids.
//!
//! It concludes from absence, which is sound because the snapshot is always one state of the whole cluster (see
//! [`runner`](crate::runner)): an owner is older than what refers to it, so whoever sees the dependent has seen the owner.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    action::{Action, Event, Involved, Propagation, warning},
    controller::{Change, Concurrency, Controller, Key},
    ownership::{reference, without},
    snapshot::{Item, Kind, Snapshot},
    view::{Meta, Object, OwnerReference},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const COMPONENT: &str = "garbage-collector-controller";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "generic-garbage-collector",
    watches: &[],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    let old = change.old.as_ref().map(Object::meta);
    let new = change.new.as_ref().map(Object::meta);
    let mut uids: Vec<&str> = Vec::new();
    if let Some(new) = new
        && (!new.owner_references.is_empty() || special(new))
    {
        uids.push(&new.uid);
    }
    let gone = old.filter(|old| new.is_none_or(|new| new.uid != old.uid));
    let began_deletion = new.filter(|new| new.deleting() && !old.is_some_and(Meta::deleting));
    for meta in gone.into_iter().chain(began_deletion) {
        uids.extend(snapshot.indexes.dependents(&meta.uid).map(|item| &*item.uid));
    }
    // Owners that wait for this one.
    let owners = old.into_iter().chain(new).flat_map(|meta| &meta.owner_references);
    let waiting = |owner: &&OwnerReference| snapshot.indexes.by_uid(&owner.uid).is_some_and(|item| item.deleting);
    uids.extend(owners.filter(waiting).map(|owner| owner.uid.as_str()));
    uids.sort_unstable();
    uids.dedup();
    uids.into_iter().map(|uid| Key::new("", uid)).collect()
}

fn special(meta: &Meta) -> bool {
    meta.deleting() && (meta.has_finalizer(FOREGROUND) || meta.has_finalizer(ORPHAN))
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let Some(item) = snapshot.indexes.by_uid(&key.name) else { return Vec::new() };
    let has = |finalizer: &str| item.finalizers.iter().any(|f| f == finalizer);
    match (item.deleting, has(ORPHAN), has(FOREGROUND)) {
        (true, true, _) => orphan(snapshot, item),
        (true, false, true) => foreground(snapshot, item),
        (true, false, false) => Vec::new(),
        (false, ..) => judge(snapshot, item),
    }
}

/// The dependents lose their reference, then the object its finalizer.
fn orphan(snapshot: &Snapshot, item: &Item) -> Vec<Action> {
    let mut actions: Vec<Action> = snapshot
        .indexes
        .dependents(&item.uid)
        .map(|dependent| {
            let rest = without(&dependent.owners, |uid| uid == &*item.uid);
            patch(dependent, json!({ "metadata": { "ownerReferences": rest } }))
        })
        .collect();
    actions.push(drop_finalizer(item, ORPHAN));
    actions
}

/// Dependents judge themselves (their owner waits); the object goes when none blocks it any more.
fn foreground(snapshot: &Snapshot, item: &Item) -> Vec<Action> {
    let blocks = |dependent: &&Item| dependent.owners.iter().any(|o| o.uid == *item.uid && o.block_owner_deletion);
    if snapshot.indexes.dependents(&item.uid).any(|dependent| blocks(&dependent)) {
        return Vec::new();
    }
    vec![drop_finalizer(item, FOREGROUND)]
}

/// What an owner reference is worth.
#[derive(PartialEq, Eq)]
enum Worth {
    Solid,
    Dangling,
    /// The owner is being deleted and waits for its dependents.
    Waiting,
}

/// An object that is not being deleted: does anybody still own it?
fn judge(snapshot: &Snapshot, item: &Item) -> Vec<Action> {
    if item.owners.is_empty() {
        return Vec::new();
    }
    let mut actions: Vec<Action> = complaint(snapshot, item).map(Action::Event).into_iter().collect();
    let worths: Vec<Worth> = item.owners.iter().map(|owner| worth(snapshot, item, owner)).collect();
    if worths.contains(&Worth::Solid) {
        if worths.iter().all(|worth| *worth == Worth::Solid) {
            return actions;
        }
        let kept = item.owners.iter().zip(&worths).filter(|(_, worth)| **worth == Worth::Solid);
        let kept: Vec<Value> = kept.map(|(owner, _)| reference(owner)).collect();
        actions.push(patch(item, json!({ "metadata": { "ownerReferences": kept } })));
        return actions;
    }
    let dependents = || snapshot.indexes.dependents(&item.uid);
    if worths.contains(&Worth::Waiting) && dependents().next().is_some() {
        // A circle of owners that wait for one another: this one gives way.
        let circle =
            dependents().any(|dependent| dependent.deleting && dependent.finalizers.iter().any(|f| f == FOREGROUND));
        actions.extend(circle.then(|| unblock(item)));
        actions.push(delete(item, Propagation::Foreground, !circle));
        return actions;
    }
    let wish = |finalizer: &str| item.finalizers.iter().any(|f| f == finalizer);
    let propagation = if wish(ORPHAN) {
        Propagation::Orphan
    } else if wish(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    actions.push(delete(item, propagation, true));
    actions
}

fn worth(snapshot: &Snapshot, item: &Item, owner: &OwnerReference) -> Worth {
    match snapshot.indexes.by_uid(&owner.uid) {
        // A cluster-scoped object cannot have a namespaced owner: nobody can say where to look for it.
        _ if misplaced(snapshot, item, owner) => Worth::Solid,
        // A namespaced owner rules only its own namespace.
        Some(found) if !found.key.namespace.is_empty() && found.key.namespace != item.key.namespace => Worth::Dangling,
        Some(found) if found.deleting && found.finalizers.iter().any(|f| f == FOREGROUND) => Worth::Waiting,
        None if known(snapshot, owner) => Worth::Dangling,
        // There, or of a kind that is not served: nobody can say that it is gone.
        _ => Worth::Solid,
    }
}

fn known(snapshot: &Snapshot, owner: &OwnerReference) -> bool {
    kind_of(snapshot, owner).is_some()
}

fn kind_of<'a>(snapshot: &'a Snapshot, owner: &OwnerReference) -> Option<&'a Kind> {
    let group = |api_version: &str| api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
    let wanted = group(&owner.api_version);
    snapshot.kinds.iter().find(|kind| kind.kind == owner.kind && group(&kind.api_version) == wanted)
}

fn misplaced(snapshot: &Snapshot, item: &Item, owner: &OwnerReference) -> bool {
    item.key.namespace.is_empty() && kind_of(snapshot, owner).is_some_and(|kind| kind.namespaced)
}

/// A reference across namespaces is told to whoever looks for the reason.
fn complaint(snapshot: &Snapshot, item: &Item) -> Option<Event> {
    let elsewhere = |owner: &&OwnerReference| {
        let found = snapshot.indexes.by_uid(&owner.uid);
        found.is_some_and(|found| !found.key.namespace.is_empty() && found.key.namespace != item.key.namespace)
            || misplaced(snapshot, item, owner)
    };
    let owner = item.owners.iter().find(elsewhere)?;
    let kind = snapshot.kinds.iter().find(|kind| *kind.resource == *item.resource)?;
    let namespace = &item.key.namespace;
    let message = format!(
        "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace \"{namespace}\"",
        owner.api_version, owner.kind, owner.name, owner.uid
    );
    let involved = Involved {
        api_version: kind.api_version.clone().into(),
        kind: kind.kind.clone().into(),
        namespace: namespace.to_string(),
        name: item.key.name.to_string(),
        uid: item.uid.to_string(),
        resource_version: item.revision.to_string(),
    };
    Some(warning(COMPONENT, involved, "OwnerRefInvalidNamespace", message))
}

fn delete(item: &Item, propagation: Propagation, exact: bool) -> Action {
    Action::Delete {
        resource: item.resource.to_string().into(),
        namespace: item.key.namespace.to_string(),
        name: item.key.name.to_string(),
        uid: Some(item.uid.to_string()),
        // Whoever changed its owners meanwhile is heard.
        resource_version: exact.then(|| item.revision.to_string()),
        grace: None,
        propagation: Some(propagation),
    }
}

fn unblock(item: &Item) -> Action {
    let owners: Vec<Value> = item
        .owners
        .iter()
        .map(|owner| reference(&OwnerReference { block_owner_deletion: false, ..owner.clone() }))
        .collect();
    patch(item, json!({ "metadata": { "ownerReferences": owners } }))
}

fn drop_finalizer(item: &Item, finalizer: &str) -> Action {
    let rest: Vec<&String> = item.finalizers.iter().filter(|f| *f != finalizer).collect();
    patch(item, json!({ "metadata": { "finalizers": rest } }))
}

fn patch(item: &Item, patch: Value) -> Action {
    Action::Patch {
        resource: item.resource.to_string().into(),
        namespace: item.key.namespace.to_string(),
        name: item.key.name.to_string(),
        subresource: None,
        patch,
        uid: Some(item.uid.to_string()),
        resource_version: Some(item.revision.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    #[track_caller]
    fn check(cluster: &Cluster, name: &str, expected: &[&str]) {
        assert_eq!(brief(&reconcile(&cluster.snapshot, &Key::new("", format!("uid-{name}")), NOW)), expected);
    }

    fn pod(owners: Value) -> Value {
        json!({"metadata": {"name": "p", "ownerReferences": owners}})
    }

    #[test]
    fn dependents_follow_their_owner() {
        let mut cluster = Cluster::new();
        cluster.put("replicasets.apps", json!({"metadata": {"name": "rs"}}));
        cluster.put("pods", pod(owner("ReplicaSet", "rs")));
        check(&cluster, "p", &[]);
        let change = cluster.remove("replicasets.apps", "ns", "rs").unwrap();
        assert_eq!(keys(&cluster.snapshot, &change), [Key::new("", "uid-p")]);
        check(&cluster, "p", &["delete pods p Background"]);
    }

    #[test]
    fn an_unknown_kind_is_not_gone() {
        let mut cluster = Cluster::new();
        cluster.put("pods", pod(owner("Gadget", "g")));
        check(&cluster, "p", &[]);
    }

    #[test]
    fn a_dangling_reference_beside_a_solid_one_is_taken_away() {
        let mut cluster = Cluster::new();
        cluster.put("replicasets.apps", json!({"metadata": {"name": "rs"}}));
        let mut owners = owner("ReplicaSet", "rs");
        owners.as_array_mut().unwrap().extend(owner("ReplicaSet", "gone").as_array().unwrap().clone());
        cluster.put("pods", pod(owners));
        let got = brief(&reconcile(&cluster.snapshot, &Key::new("", "uid-p"), NOW));
        assert!(got[0].contains("uid-rs") && !got[0].contains("gone"), "{got:?}");
    }

    #[test]
    fn foreground_waits_for_blocking_dependents() {
        let mut cluster = Cluster::new();
        cluster.put(
            "replicasets.apps",
            json!({"metadata": {"name": "rs", "deletionTimestamp": ago(1), "finalizers": [FOREGROUND]}}),
        );
        cluster.put("pods", pod(owner("ReplicaSet", "rs")));
        check(&cluster, "rs", &[]);
        check(&cluster, "p", &["delete pods p Background"]);
        let change = cluster.remove("pods", "ns", "p").unwrap();
        assert_eq!(keys(&cluster.snapshot, &change), [Key::new("", "uid-rs")]);
        check(&cluster, "rs", &[r#"patch replicasets.apps rs {"metadata":{"finalizers":[]}}"#]);
    }

    #[test]
    fn foreground_goes_down_the_tree() {
        let mut cluster = Cluster::new();
        cluster.put(
            "deployments.apps",
            json!({"metadata": {"name": "d", "deletionTimestamp": ago(1), "finalizers": [FOREGROUND]}}),
        );
        cluster
            .put("replicasets.apps", json!({"metadata": {"name": "rs", "ownerReferences": owner("Deployment", "d")}}));
        cluster.put("pods", pod(owner("ReplicaSet", "rs")));
        check(&cluster, "rs", &["delete replicasets.apps rs Foreground"]);
        check(&cluster, "p", &[]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_none_and_told() {
        let mut cluster = Cluster::new();
        cluster.put("replicasets.apps", json!({"metadata": {"name": "rs", "namespace": "other"}}));
        cluster.put("pods", pod(owner("ReplicaSet", "rs")));
        check(
            &cluster,
            "p",
            &[
                "event Warning p OwnerRefInvalidNamespace: ownerRef [apps/v1/ReplicaSet, namespace: ns, name: rs, uid: uid-rs] does not exist in namespace \"ns\"",
                "delete pods p Background",
            ],
        );
    }

    #[test]
    fn a_namespaced_owner_of_a_cluster_scoped_object_deletes_nothing() {
        let mut cluster = Cluster::new();
        cluster.put("nodes", json!({"metadata": {"name": "n", "ownerReferences": owner("ReplicaSet", "rs")}}));
        let got = brief(&reconcile(&cluster.snapshot, &Key::new("", "uid-n"), NOW));
        assert!(got.len() == 1 && got[0].contains("OwnerRefInvalidNamespace"), "{got:?}");
    }

    #[test]
    fn a_circle_of_waiting_owners_gives_way() {
        let mut cluster = Cluster::new();
        let going = |name: &str, owner_name: &str| {
            json!({"metadata": {"name": name, "deletionTimestamp": ago(1), "finalizers": [FOREGROUND],
                "ownerReferences": owner("ReplicaSet", owner_name)}})
        };
        cluster.put("replicasets.apps", going("a", "b"));
        cluster
            .put("replicasets.apps", json!({"metadata": {"name": "b", "ownerReferences": owner("ReplicaSet", "a")}}));
        let got = brief(&reconcile(&cluster.snapshot, &Key::new("", "uid-b"), NOW));
        assert!(got[0].contains(r#""blockOwnerDeletion":false"#), "{got:?}");
        assert_eq!(got[1], "delete replicasets.apps b Foreground");
    }

    #[test]
    fn orphans_lose_their_reference() {
        let mut cluster = Cluster::new();
        cluster.put(
            "replicasets.apps",
            json!({"metadata": {"name": "rs", "deletionTimestamp": ago(1), "finalizers": [ORPHAN]}}),
        );
        cluster.put("pods", pod(owner("ReplicaSet", "rs")));
        check(
            &cluster,
            "rs",
            &[
                r#"patch pods p {"metadata":{"ownerReferences":[]}}"#,
                r#"patch replicasets.apps rs {"metadata":{"finalizers":[]}}"#,
            ],
        );
    }
}
