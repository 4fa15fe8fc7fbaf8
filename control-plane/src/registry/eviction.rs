//! `pods/eviction`: a delete that a disruption budget may forbid, and that spends what it allows.
//!
//! The controller of budgets computes what is allowed; here it is spent under the budget's own revision, so that of two
//! evictions at once only as many pass as the status says. Upstream: pkg/registry/core/pod/storage/eviction.go.
use api::path;
use api::schema::row;
use api::select::LabelSelector;
use api::status::{Cause, Status};
use serde_json::{Value, json};

use super::{DeleteOptions, Outcome, Preconditions, Registry, Target, metadata};
use crate::serve;

/// Evictions that a budget's status holds at most; more means that its controller confirms none.
const UNCONFIRMED: usize = 2000;
const BUDGETS: (&str, &str) = ("policy", "poddisruptionbudgets");

impl Registry {
    /// Deletes a pod unless a disruption budget forbids it.
    ///
    /// # Errors
    /// 429 when one does, 500 when several select the pod.
    pub async fn evict(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<Outcome, Status> {
        let entry = self.entry(target)?;
        let pod = serve::parse(&entry.value, entry.revision);
        options.preconditions.check(target, &pod)?;
        let finished = matches!(path::str(&pod, "status.phase"), "Succeeded" | "Failed" | "Pending");
        if finished || !path::str(&pod, "metadata.deletionTimestamp").is_empty() {
            return self.delete(target, options).await;
        }
        let mut preconditions =
            Preconditions { uid: Some(path::str(&pod, "metadata.uid").to_owned()), resource_version: None };
        if let Some(budget) = self.budget(target.namespace, &pod)? {
            if passes_unhealthy(&budget, &pod) {
                // It may not have become healthy since.
                preconditions.resource_version = Some(entry.revision.to_string());
            } else {
                self.spend(target, &budget, options.dry_run).await?;
            }
        }
        let marked = Target { subresource: "status", ..*target };
        self.update(&marked, &preconditions, options.dry_run, |pod| Ok(disrupted(pod))).await?;
        preconditions.resource_version = None;
        self.delete(target, &DeleteOptions { preconditions, ..options.clone() }).await
    }

    /// The budget of a pod; several are more than can be spent together.
    fn budget(&self, namespace: &str, pod: &Value) -> Result<Option<Value>, Status> {
        let prefix = format!("{namespace}/");
        let objects = self.cache.snapshot(BUDGETS.1).objects;
        let mut found = None;
        for (_, entry) in objects.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            let budget = serve::parse(&entry.value, entry.revision);
            let selector = path::get(&budget, "spec.selector");
            if selector.is_null() || !LabelSelector::from_object(selector)?.matches_object(pod) {
                continue;
            }
            if found.replace(budget).is_some() {
                let text =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::new(500, "", text));
            }
        }
        Ok(found)
    }

    /// Takes one disruption from a budget, or says why there is none.
    async fn spend(&self, target: &Target<'_>, budget: &Value, dry_run: bool) -> Result<(), Status> {
        let row = row(BUDGETS.0, "v1", BUDGETS.1).ok_or_else(Status::path_not_found)?;
        let name = path::str(budget, "metadata.name");
        let budget = Target { row, name, subresource: "status", ..*target };
        let spent = self.update(&budget, &Preconditions::default(), dry_run, |budget| spend(budget, target.name)).await;
        spent.map(drop)
    }
}

/// A pod that is not ready needs no budget if the policy says so, or if enough others are healthy.
fn passes_unhealthy(budget: &Value, pod: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    if path::list(pod, "status.conditions").iter().any(ready) {
        return false;
    }
    if path::str(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" {
        return true;
    }
    let status = |field: &str| path::int(budget, field).unwrap_or(0);
    let desired = status("status.desiredHealthy");
    desired > 0 && status("status.currentHealthy") >= desired
}

/// The budget with one disruption less, and the pod as the one that it went to.
fn spend(budget: &Value, pod: &str) -> Result<Value, Status> {
    let name = path::str(budget, "metadata.name");
    let status = |field: &str| path::int(budget, field).unwrap_or(0);
    let refused = |retry: u32, message: String| {
        let text = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut refusal = Status::too_many_requests(text, retry);
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message, field: String::new() };
        refusal.details.get_or_insert_default().causes.push(cause);
        Err(refusal)
    };
    if status("status.observedGeneration") < status("metadata.generation") {
        return refused(10, format!("The disruption budget {name} is still being processed by the server."));
    }
    let allowed = status("status.disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(BUDGETS, name, "pdb disruptions allowed is negative"));
    }
    if path::map(budget, "status.disruptedPods").is_some_and(|pods| pods.len() > UNCONFIRMED) {
        let text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(BUDGETS, name, text));
    }
    if allowed == 0 {
        let (desired, healthy) = (status("status.desiredHealthy"), status("status.currentHealthy"));
        let text = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return refused(0, text);
    }
    let mut budget = budget.clone();
    path::entry(&mut budget, "status").insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    path::entry(&mut budget, "status.disruptedPods").insert(pod.to_owned(), metadata::now().into());
    Ok(budget)
}

/// The pod says who ended it.
fn disrupted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let known = path::list(&pod, "status.conditions").iter();
    let mut conditions: Vec<Value> = known.filter(|known| known["type"] != "DisruptionTarget").cloned().collect();
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": metadata::now(),
    }));
    path::entry(&mut pod, "status").insert("conditions".to_owned(), conditions.into());
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_spend(status: &Value, expected: Result<i64, u16>) {
        let budget = json!({"metadata": {"name": "b", "generation": 2}, "status": status});
        let spent = spend(&budget, "p");
        assert_eq!(
            spent.as_ref().map(|b| path::int(b, "status.disruptionsAllowed").unwrap()).map_err(|s| s.code),
            expected
        );
        if let Ok(budget) = spent {
            assert!(path::map(&budget, "status.disruptedPods").unwrap().contains_key("p"));
        }
    }

    #[test]
    fn what_is_allowed_is_spent() {
        check_spend(&json!({"observedGeneration": 2, "disruptionsAllowed": 2}), Ok(1));
        check_spend(&json!({"observedGeneration": 2, "disruptionsAllowed": 0}), Err(429));
        check_spend(&json!({"observedGeneration": 1, "disruptionsAllowed": 2}), Err(429));
        check_spend(&json!({"observedGeneration": 2, "disruptionsAllowed": -1}), Err(403));
    }

    #[track_caller]
    fn check_unhealthy(policy: Option<&str>, ready: &str, healthy: i64, expected: bool) {
        let budget = json!({"spec": {"unhealthyPodEvictionPolicy": policy},
            "status": {"desiredHealthy": 2, "currentHealthy": healthy}});
        let pod = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        assert_eq!(passes_unhealthy(&budget, &pod), expected);
    }

    #[test]
    fn unhealthy_pods() {
        check_unhealthy(None, "False", 2, true);
        check_unhealthy(Some("IfHealthyBudget"), "False", 1, false);
        check_unhealthy(Some("AlwaysAllow"), "False", 1, true);
        check_unhealthy(Some("AlwaysAllow"), "True", 1, false);
    }
}
