//! NamespaceLifecycle: nothing new where there is no namespace, or one that ends; some namespaces never end.
use api::path;
use api::status::{Cause, Status};
use serde_json::Value;

use crate::registry::Target;
use crate::serve;
use crate::storage::cache::Cache;

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) fn exists(cache: &Cache, target: &Target<'_>, object: &Value) -> Result<(), Status> {
    let name = target.namespace;
    let Some(entry) = cache.get("namespaces", name) else {
        return Err(Status::not_found("namespaces", name));
    };
    let namespace = serve::parse(&entry.value, entry.revision);
    if path::str(&namespace, "metadata.deletionTimestamp").is_empty() {
        return Ok(());
    }
    // Reviews and the like are not content.
    if path::str(object, "kind").ends_with("Review") {
        return Ok(());
    }
    let text = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(target.row, target.name, text);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {name} is being terminated"),
        field: "metadata.namespace".to_owned(),
    });
    Err(status)
}

pub(super) fn may_go(target: &Target<'_>) -> Result<(), Status> {
    if target.row.storage_key == "namespaces" && IMMORTAL.contains(&target.name) {
        return Err(Status::forbidden(target.row, target.name, "this namespace may not be deleted"));
    }
    Ok(())
}
