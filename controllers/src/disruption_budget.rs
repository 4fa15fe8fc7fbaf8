//! PodDisruptionBudgets: how many pods an eviction may still take. The eviction API spends what this status allows.
//! Upstream: pkg/controller/disruption.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::Snapshot,
    view::{Budget, BudgetStatus, Condition, Object, Pod, condition, rfc3339},
};

/// An eviction that was allowed but whose pod is still there after so long did not happen.
const DELETION_TIMEOUT: i64 = 120;
const TYPE: &str = "DisruptionAllowed";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    watches: &[resource::BUDGETS, resource::PODS, resource::REPLICA_SETS, resource::DEPLOYMENTS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    let in_namespace = || snapshot.budgets.in_namespace(&change.key.namespace);
    match (&change.old, &change.new) {
        (_, Some(Object::Budget(_))) | (Some(Object::Budget(_)), _) => vec![change.key.clone()],
        (Some(Object::Pod(_)), _) | (_, Some(Object::Pod(_))) => {
            let pods: Vec<&Pod> = [&change.old, &change.new]
                .into_iter()
                .filter_map(|object| if let Some(Object::Pod(pod)) = object { Some(&**pod) } else { None })
                .collect();
            in_namespace().filter(|budget| pods.iter().any(|pod| selects(budget, pod))).map(|b| b.meta.key()).collect()
        }
        _ => in_namespace().map(|budget| budget.meta.key()).collect(),
    }
}

/// No selector selects nothing, an empty one everything.
fn selects(budget: &Budget, pod: &Pod) -> bool {
    budget.spec.selector.as_ref().is_some_and(|selector| selector.matches(&pod.meta.labels))
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(budget) = snapshot.budgets.get(key) else { return Vec::new() };
    let pods: Vec<&Arc<Pod>> =
        snapshot.pods.in_namespace(&key.namespace).filter(|pod| selects(budget, pod) && !pod.terminated()).collect();
    let disrupted = still_disrupted(budget, &pods, now);
    let healthy =
        pods.iter().filter(|p| p.ready() && !p.meta.deleting() && !disrupted.contains_key(&p.meta.name)).count();
    let healthy = i64::try_from(healthy).unwrap_or(i64::MAX);
    let (expected, desired) = expectation(snapshot, budget, &pods);
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut wanted = BudgetStatus {
        observed_generation: budget.meta.generation,
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        conditions: conditions(budget, allowed, now),
        disrupted_pods: disrupted,
    };
    let mut actions = Vec::new();
    if !wanted.disrupted_pods.is_empty() {
        actions.push(Action::RequeueAfter(Duration::from_secs(DELETION_TIMEOUT.unsigned_abs())));
    }
    if wanted != budget.status {
        let gone = budget.status.disrupted_pods.keys().filter(|name| !wanted.disrupted_pods.contains_key(*name));
        let mut disrupted: serde_json::Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
        disrupted.extend(std::mem::take(&mut wanted.disrupted_pods).into_iter().map(|(k, v)| (k, v.into())));
        let mut status = json!(wanted);
        status["disruptedPods"] = disrupted.into();
        actions.push(Action::patch_exact(resource::BUDGETS, &budget.meta, Some("status"), json!({ "status": status })));
    }
    actions
}

/// Evictions that were allowed and whose pods are still to be deleted.
fn still_disrupted(budget: &Budget, pods: &[&Arc<Pod>], now: Timestamp) -> BTreeMap<String, String> {
    let recent = |at: &str| at.parse::<Timestamp>().is_ok_and(|at| now.as_second() - at.as_second() < DELETION_TIMEOUT);
    let there = |name: &str| pods.iter().any(|pod| pod.meta.name == name && !pod.meta.deleting());
    let disrupted = budget.status.disrupted_pods.iter().filter(|(name, at)| there(name) && recent(at));
    disrupted.map(|(name, at)| (name.clone(), at.clone())).collect()
}

/// How many pods there should be, and how many of them must be healthy.
fn expectation(snapshot: &Snapshot, budget: &Budget, pods: &[&Arc<Pod>]) -> (i64, i64) {
    let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    if let Some(unavailable) = &budget.spec.max_unavailable {
        let expected = asked_for(snapshot, pods);
        return (expected, (expected - unavailable.scaled(expected, true)).max(0));
    }
    match &budget.spec.min_available {
        Some(crate::view::IntOrString::Int(minimum)) => (count, *minimum),
        Some(percent) => {
            let expected = asked_for(snapshot, pods);
            (expected, percent.scaled(expected, true))
        }
        None => (count, 0),
    }
}

/// What the pods' controllers are asked to run; a pod of an unknown controller counts itself, one of none does not count.
fn asked_for(snapshot: &Snapshot, pods: &[&Arc<Pod>]) -> i64 {
    let mut scales: BTreeMap<&str, i64> = BTreeMap::new();
    let mut others = 0;
    for pod in pods {
        let Some(owner) = pod.meta.controller() else { continue };
        match scale(snapshot, pod, &owner.kind, &owner.name) {
            Some((root, replicas)) => {
                scales.insert(root, replicas);
            }
            None => others += 1,
        }
    }
    scales.values().sum::<i64>() + others
}

/// The uid and size of what decides how many there are: a deployment rather than its set.
fn scale<'a>(snapshot: &'a Snapshot, pod: &Pod, kind: &str, name: &str) -> Option<(&'a str, i64)> {
    let namespace = &pod.meta.namespace;
    let set = match kind {
        "ReplicaSet" => snapshot.replica_sets.named(namespace, name)?,
        "ReplicationController" => snapshot.replication_controllers.named(namespace, name)?,
        _ => return None,
    };
    let deployment =
        set.meta.controlled_by_kind("Deployment").and_then(|owner| snapshot.deployments.named(namespace, &owner.name));
    Some(match deployment {
        Some(deployment) => (&deployment.meta.uid, deployment.replicas()),
        None => (&set.meta.uid, set.replicas()),
    })
}

fn conditions(budget: &Budget, allowed: i64, now: Timestamp) -> Vec<Condition> {
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let old = condition(&budget.status.conditions, TYPE);
    let same_status = old.filter(|old| old.status == status);
    if same_status.is_some_and(|old| old.reason == reason && old.observed_generation == Some(budget.meta.generation)) {
        return budget.status.conditions.clone();
    }
    let kept = same_status.and_then(|old| old.last_transition_time.clone());
    let mut conditions: Vec<Condition> = budget.status.conditions.iter().filter(|c| c.type_ != TYPE).cloned().collect();
    conditions.push(Condition {
        type_: TYPE.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        last_transition_time: kept.or_else(|| Some(rfc3339(now))),
        observed_generation: Some(budget.meta.generation),
        ..Condition::default()
    });
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;

    /// Of a deployment of four with `ready` ready pods: (expected, desired, healthy, allowed).
    #[track_caller]
    fn check(spec: Value, ready: usize, expected: (i64, i64, i64, i64)) {
        let mut cluster = Cluster::new();
        cluster.put(resource::DEPLOYMENTS, json!({"metadata": {"name": "d"}, "spec": {"replicas": 4}}));
        cluster.put(
            resource::REPLICA_SETS,
            json!({"metadata": {"name": "rs", "ownerReferences": owner("Deployment", "d")}, "spec": {"replicas": 3}}),
        );
        for i in 0..4 {
            let status = if i < ready { "True" } else { "False" };
            cluster.put("pods", json!({"metadata": {"name": format!("p{i}"), "labels": {"a": "b"}, "ownerReferences": owner("ReplicaSet", "rs")},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}}));
        }
        let mut full = json!({"selector": {"matchLabels": {"a": "b"}}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        cluster.put(resource::BUDGETS, json!({"metadata": {"name": "b", "generation": 1}, "spec": full}));
        let actions = reconcile(&cluster.snapshot, &Key::new("ns", "b"), NOW);
        let [Action::Patch { patch, .. }] = &actions[..] else { panic!("{actions:?}") };
        let of = |name: &str| patch["status"][name].as_i64().unwrap();
        assert_eq!(
            (of("expectedPods"), of("desiredHealthy"), of("currentHealthy"), of("disruptionsAllowed")),
            expected
        );
    }

    #[test]
    fn budgets() {
        check(json!({"maxUnavailable": 1}), 4, (4, 3, 4, 1));
        check(json!({"maxUnavailable": 1}), 3, (4, 3, 3, 0));
        check(json!({"maxUnavailable": "50%"}), 4, (4, 2, 4, 2));
        check(json!({"minAvailable": 2}), 4, (4, 2, 4, 2));
        check(json!({"minAvailable": "75%"}), 2, (4, 3, 2, 0));
    }

    #[test]
    fn an_eviction_counts_until_its_pod_goes() {
        let mut cluster = Cluster::new();
        cluster.put("pods", json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        cluster.put(
            resource::BUDGETS,
            json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 0, "selector": {}},
            "status": {"disruptedPods": {"p": ago(5), "gone": ago(5)}}}),
        );
        let actions = reconcile(&cluster.snapshot, &Key::new("ns", "b"), NOW);
        let Some(Action::Patch { patch, .. }) = actions.last() else { panic!("{actions:?}") };
        assert_eq!(patch["status"]["currentHealthy"], 0);
        assert_eq!(patch["status"]["disruptedPods"], json!({"gone": null, "p": ago(5)}));
    }
}
