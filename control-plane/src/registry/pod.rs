//! Binding: a write that only pods have, as eviction is (`eviction.rs`).
use api::path;
use api::schema::row;
use api::status::Status;
use serde_json::{Value, json};

use super::{Outcome, Preconditions, Registry, Target, metadata};
use crate::authn::User;

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
