//! ReplicaSets and ReplicationControllers: as many pods as asked for. Upstream: pkg/controller/replicaset.
//!
//! No expectations and no slow start: the runner shows this controller its own writes before it decides again, and stops a
//! list of creates at the first that fails.

mod ranking;
mod status;

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    action::{Action, normal, warning},
    controller::{Change, Concurrency, Controller, Key},
    names,
    ownership::Owner,
    resource,
    snapshot::{Snapshot, Table},
    template,
    view::{Meta, Object, Pod, ReplicaSet},
};

/// Pods created or deleted in one round at most.
const BURST: usize = 500;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    watches: &[resource::REPLICA_SETS, resource::PODS],
    keys: |snapshot, change| keys(snapshot, change, &SETS),
    reconcile: |snapshot, key, now| reconcile(snapshot, key, now, &SETS),
    priority: None,
    concurrency: Concurrency::PerKey,
};

pub(crate) const LEGACY: Controller = Controller {
    name: "replication-controller",
    watches: &[resource::REPLICATION_CONTROLLERS, resource::PODS],
    keys: |snapshot, change| keys(snapshot, change, &CONTROLLERS),
    reconcile: |snapshot, key, now| reconcile(snapshot, key, now, &CONTROLLERS),
    priority: None,
    concurrency: Concurrency::PerKey,
};

/// Which of the two kinds.
struct Flavour {
    name: &'static str,
    kind: &'static str,
    table: fn(&Snapshot) -> &Table<ReplicaSet>,
}

const SETS: Flavour = Flavour { name: CONTROLLER.name, kind: "ReplicaSet", table: |snapshot| &snapshot.replica_sets };
const CONTROLLERS: Flavour =
    Flavour { name: LEGACY.name, kind: "ReplicationController", table: |snapshot| &snapshot.replication_controllers };

fn keys(snapshot: &Snapshot, change: &Change, flavour: &Flavour) -> Vec<Key> {
    if &*change.resource != resource::PODS {
        return vec![change.key.clone()];
    }
    let pods = [&change.old, &change.new];
    let metas = pods.into_iter().flatten().map(Object::meta);
    let owners = metas.filter_map(|meta| meta.controlled_by_kind(flavour.kind));
    let mut keys: Vec<Key> =
        owners.map(|owner| Key::new(Arc::clone(&change.key.namespace), owner.name.as_str())).collect();
    keys.dedup();
    if let Some(Object::Pod(pod)) = &change.new
        && pod.meta.controller().is_none()
        && !pod.meta.deleting()
    {
        let sets = (flavour.table)(snapshot).in_namespace(&change.key.namespace);
        keys.extend(sets.filter(|set| set.selector().matches(&pod.meta.labels)).map(|set| set.meta.key()));
    }
    keys
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp, flavour: &Flavour) -> Vec<Action> {
    let Some(set) = (flavour.table)(snapshot).get(key) else { return Vec::new() };
    let owner = Owner { meta: &set.meta, api_version: set.api_version(), kind: set.kind(), selector: set.selector() };
    let owned = snapshot.owned(&set.meta.uid, resource::PODS, &snapshot.pods);
    let orphans = snapshot.orphans(&key.namespace, resource::PODS, &snapshot.pods);
    let orphans = orphans.into_iter().filter(|pod| pod.active()).collect();
    let (pods, writes) = owner.claim(resource::PODS, owned, orphans, |pod: &Pod| &pod.meta);
    if !writes.is_empty() {
        return writes;
    }
    let active: Vec<&Arc<Pod>> = pods.into_iter().filter(|pod| pod.active()).collect();
    let failure = snapshot.failure(flavour.name, key);
    let mut actions: Vec<Action> = status::update(set, &active, failure, now).into_iter().collect();
    if !set.meta.deleting() {
        actions.extend(manage(snapshot, set, &owner, &active, flavour));
    }
    actions.extend(status::look_again(set, &active, now));
    actions
}

fn manage(
    snapshot: &Snapshot,
    set: &ReplicaSet,
    owner: &Owner<'_>,
    active: &[&Arc<Pod>],
    flavour: &Flavour,
) -> Vec<Action> {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let involved = || set.meta.involved(set.api_version(), flavour.kind);
    if active.len() < wanted {
        let template = set.spec.template.value();
        let failed = warning(flavour.name, involved(), "FailedCreate", "Error creating: ".to_owned());
        let mut actions = Vec::new();
        for index in 0..(wanted - active.len()).min(BURST) {
            let name = pod_name(&set.meta, snapshot.revision(), index);
            let object = template::pod(&template, &set.meta.namespace, &name, &owner.reference());
            let namespace = set.meta.namespace.clone();
            actions.push(Action::Create { resource: resource::PODS.into(), namespace, object });
            let message = format!("Created pod: {name}");
            actions.push(Action::Event(normal(flavour.name, involved(), "SuccessfulCreate", message)));
        }
        actions.push(Action::IfFailed(failed));
        return actions;
    }
    let excess = (active.len() - wanted).min(BURST);
    if excess == 0 {
        return Vec::new();
    }
    let failed = warning(flavour.name, involved(), "FailedDelete", "Error deleting: ".to_owned());
    let victims = ranking::first_to_go(snapshot, set, active, excess);
    let deletes = victims.into_iter().flat_map(|pod| {
        let message = format!("Deleted pod: {}", pod.meta.name);
        let event = normal(flavour.name, involved(), "SuccessfulDelete", message);
        [Action::delete(resource::PODS, &pod.meta), Action::Event(event)]
    });
    deletes.chain([Action::IfFailed(failed)]).collect()
}

/// Five letters from the set, the state on which it decided, and the number of the pod: never the same twice.
fn pod_name(set: &Meta, revision: u64, index: usize) -> String {
    let seed: [&[u8]; 3] = [set.uid.as_bytes(), &revision.to_be_bytes(), &index.to_be_bytes()];
    names::generated(&format!("{}-", set.name), &seed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::*;

    fn set(replicas: i64) -> Value {
        json!({"metadata": {"name": "rs", "generation": 1}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": {"replicas": 0, "observedGeneration": 1}})
    }

    fn pod(name: &str, owners: Value) -> Value {
        json!({"metadata": {"name": name, "labels": {"app": "a"}, "ownerReferences": owners, "creationTimestamp": ago(60)},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(50)}]}})
    }

    fn run(cluster: &Cluster) -> Vec<Action> {
        (CONTROLLER.reconcile)(&cluster.snapshot, &Key::new("ns", "rs"), NOW)
    }

    #[test]
    fn creates_what_is_missing() {
        let mut cluster = Cluster::new();
        cluster.put(resource::REPLICA_SETS, set(2));
        let actions = run(&cluster);
        let names: Vec<String> = brief(&actions);
        assert_eq!(names.len(), 5);
        assert!(names[0].starts_with("create pods rs-") && names[1].contains("SuccessfulCreate: Created pod: rs-"));
        let Action::Create { object, .. } = &actions[0] else { panic!() };
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-rs");
        assert_eq!(object["metadata"]["labels"]["app"], "a");
        assert_ne!(names[0], names[2], "each pod has its name");
    }

    #[test]
    fn counts_only_active_pods() {
        let mut cluster = Cluster::new();
        cluster.put(resource::REPLICA_SETS, set(1));
        let mut going = pod("going", owner("ReplicaSet", "rs"));
        going["metadata"]["deletionTimestamp"] = ago(1).into();
        cluster.put("pods", going);
        assert!(brief(&run(&cluster))[0].starts_with("create pods"));
        cluster.put("pods", pod("there", owner("ReplicaSet", "rs")));
        let got = brief(&run(&cluster));
        assert_eq!(
            got,
            [
                r#"patch replicasets.apps rs/status {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":1,"readyReplicas":1,"replicas":1}}"#
            ]
        );
    }

    #[test]
    fn adopts_and_releases_before_anything_else() {
        let mut cluster = Cluster::new();
        cluster.put(resource::REPLICA_SETS, set(3));
        let change = cluster.put("pods", pod("orphan", json!([]))).unwrap();
        assert_eq!((CONTROLLER.keys)(&cluster.snapshot, &change), [Key::new("ns", "rs")]);
        let mut other = pod("strange", owner("ReplicaSet", "rs"));
        other["metadata"]["labels"]["app"] = "b".into();
        cluster.put("pods", other);
        let got = brief(&run(&cluster));
        assert_eq!(got.len(), 2);
        assert_eq!(got[0], r#"patch pods strange {"metadata":{"ownerReferences":[]}}"#);
        assert!(got[1].starts_with("patch pods orphan") && got[1].contains("uid-rs"));
    }

    #[test]
    fn deletes_the_least_useful() {
        let mut cluster = Cluster::new();
        cluster.put(resource::REPLICA_SETS, set(1));
        cluster.put("pods", pod("good", owner("ReplicaSet", "rs")));
        let mut unready = pod("unready", owner("ReplicaSet", "rs"));
        unready["status"]["conditions"][0]["status"] = "False".into();
        cluster.put("pods", unready);
        let got = brief(&run(&cluster));
        assert!(got.contains(&"delete pods unready".to_owned()), "{got:?}");
        assert!(!got.contains(&"delete pods good".to_owned()));
    }

    #[test]
    fn says_that_creating_failed() {
        let mut cluster = Cluster::new();
        cluster.put(resource::REPLICA_SETS, set(1));
        cluster.snapshot.note_failure(CONTROLLER.name, &Key::new("ns", "rs"), Some("no room".to_owned()));
        assert!(
            brief(&run(&cluster))[0]
                .contains(r#""message":"no room","reason":"FailedCreate","status":"True","type":"ReplicaFailure""#)
                || brief(&run(&cluster))[0].contains("ReplicaFailure")
        );
    }

    #[test]
    fn a_replication_controller_is_the_same_with_a_plain_selector() {
        let mut cluster = Cluster::new();
        let mut rc = set(1);
        rc["spec"]["selector"] = json!({"app": "a"});
        cluster.put(resource::REPLICATION_CONTROLLERS, rc);
        let got = brief(&(LEGACY.reconcile)(&cluster.snapshot, &Key::new("ns", "rs"), NOW));
        assert!(got[0].starts_with("create pods rs-"), "{got:?}");
    }
}
