//! Admission: what a write must also satisfy, and what the cluster fills in, beyond the kind's own rules.
//!
//! Upstream's plugins of the same names, in upstream's order. Each is a function of the request, the object and the
//! copy in memory; only `service_account` waits, for the account that a new namespace is about to get.
use api::path;
use api::status::Status;
use serde_json::Value;

use crate::registry::{Registry, Target};

mod namespace;
mod node;
mod priority;
mod service_account;
mod toleration;

/// A new object, in its storage version.
///
/// # Errors
/// The refusal of a plugin.
pub async fn create(registry: &Registry, target: &Target<'_>, object: &mut Value) -> Result<(), Status> {
    let cache = &registry.cache;
    if target.row.namespaced() {
        namespace::exists(cache, target, object)?;
    }
    match target.row.storage_key {
        "pods" => {
            service_account::admit(cache, target, object).await?;
            priority::admit(cache, target, object)?;
            toleration::admit(object);
        }
        "minions" => node::taint(object),
        "priorityclasses" => priority::check_class(cache, target, object)?,
        _ => {}
    }
    Ok(())
}

/// A changed object, in its storage version.
///
/// # Errors
/// The refusal of a plugin.
pub fn update(registry: &Registry, target: &Target<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    match target.row.storage_key {
        "pods" if target.subresource.is_empty() => toleration::admit(new),
        "priorityclasses" => priority::check_class(&registry.cache, target, new)?,
        _ => {}
    }
    // A priority is never the client's to change, and the class brought it.
    if target.row.storage_key == "pods" {
        for field in ["priority", "preemptionPolicy"] {
            let held = path::get(old, "spec").get(field).cloned();
            if let (Some(held), None) = (held, path::get(new, "spec").get(field)) {
                path::entry(new, "spec").insert(field.to_owned(), held);
            }
        }
    }
    Ok(())
}

/// An object that shall go.
///
/// # Errors
/// The refusal of a plugin.
pub fn delete(_registry: &Registry, target: &Target<'_>) -> Result<(), Status> {
    namespace::may_go(target)
}
