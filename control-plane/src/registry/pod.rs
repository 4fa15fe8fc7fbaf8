//! Binding and eviction: the two writes that only pods have.
use api::path;
use api::schema::row;
use api::select::LabelSelector;
use api::status::{Cause, Status};
use serde_json::{Value, json};

use super::{DeleteOptions, Outcome, Preconditions, Registry, Target, metadata};
use crate::authn::User;
use crate::serve;

impl Registry {
    /// Assigns a pod to a node, once.
    ///
    /// # Errors
    /// 409 when it is assigned, going, or another pod of that name.
    pub async fn bind(
        &self,
        user: &User,
        namespace: &str,
        name: &str,
        binding: &Value,
        dry_run: bool,
    ) -> Result<Outcome, Status> {
        let row = row("", "v1", "pods").ok_or_else(Status::path_not_found)?;
        let target = Target { user, row, namespace, name, subresource: "binding" };
        let uid = path::str(binding, "metadata.uid");
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()), resource_version: None };
        let node = path::str(binding, "target.name");
        if node.is_empty() {
            let error = api::status::FieldError::required("target.name", "");
            return Err(Status::invalid(("", "Binding"), name, vec![error]));
        }
        self.update(&target, &preconditions, dry_run, |pod| {
            let conflict = |text: String| Err(Status::conflict(("", "pods/binding"), name, text));
            let held = path::str(pod, "spec.nodeName");
            if !path::str(pod, "metadata.deletionTimestamp").is_empty() {
                return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
            }
            if !held.is_empty() {
                return conflict(format!("pod {name} is already assigned to node {}", api::status::quote(held)));
            }
            if !path::list(pod, "spec.schedulingGates").is_empty() {
                return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
            }
            Ok(bound(pod, binding, node))
        })
        .await
    }

    /// Deletes a pod unless a disruption budget forbids it.
    ///
    /// # Errors
    /// 429 when one does.
    pub async fn evict(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<Outcome, Status> {
        let pod = self.entry(target)?;
        let pod = serve::parse(&pod.value, pod.revision);
        let finished = matches!(path::str(&pod, "status.phase"), "Succeeded" | "Failed" | "Pending");
        let going = !path::str(&pod, "metadata.deletionTimestamp").is_empty();
        if !finished && !going {
            self.ask_budgets(target.namespace, &pod)?;
        }
        self.delete(target, options).await
    }

    fn ask_budgets(&self, namespace: &str, pod: &Value) -> Result<(), Status> {
        let prefix = format!("{namespace}/");
        let budgets = self.cache.snapshot("poddisruptionbudgets").objects;
        for (_, entry) in budgets.iter().filter(|(path, _)| path.starts_with(&prefix)) {
            let budget = serve::parse(&entry.value, entry.revision);
            let selector = LabelSelector::from_object(path::get(&budget, "spec.selector"))?;
            if selector.matches_object(pod) && path::int(&budget, "status.disruptionsAllowed").unwrap_or(0) < 1 {
                let name = path::str(&budget, "metadata.name");
                let text = "Cannot evict pod as it would violate the pod's disruption budget.";
                let mut status = Status::too_many_requests(text, 10);
                status.details.get_or_insert_default().causes.push(Cause {
                    reason: "DisruptionBudget".to_owned(),
                    message: format!("The disruption budget {name} does not allow another disruption right now"),
                    field: String::new(),
                });
                return Err(status);
            }
        }
        Ok(())
    }
}

fn bound(pod: &Value, binding: &Value, node: &str) -> Value {
    let mut pod = pod.clone();
    path::entry(&mut pod, "spec").insert("nodeName".to_owned(), node.into());
    for (key, value) in path::map(binding, "metadata.annotations").into_iter().flatten() {
        path::entry(&mut pod, "metadata.annotations").insert(key.clone(), value.clone());
    }
    let mut conditions: Vec<Value> =
        path::list(&pod, "status.conditions").iter().filter(|known| known["type"] != "PodScheduled").cloned().collect();
    conditions.push(
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": metadata::now()}),
    );
    path::entry(&mut pod, "status").insert("conditions".to_owned(), conditions.into());
    pod
}
