//! Cluster-wide classes and definitions: PriorityClass, StorageClass, CSIDriver, CustomResourceDefinition.

use serde_json::{Value, json};

use super::{fill, workload};
use crate::{path, status::FieldError};

/// Higher priorities are the system's.
const MAX_PRIORITY: i64 = 1_000_000_000;

pub(super) fn default_priority(value: &mut Value) {
    fill::set(path::object(value), "preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn validate_priority(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, priority) = (path::str(value, "metadata.name"), path::int(value, "value").unwrap_or(0));
    let known = matches!(name, "system-node-critical" | "system-cluster-critical");
    if name.starts_with("system-") && !known {
        let detail = "priority class names with 'system-' prefix are reserved for system use only";
        errors.push(FieldError::forbidden(
            "metadata.name",
            format!("{detail}. error: {name} is not a known system priority class"),
        ));
    }
    if priority > MAX_PRIORITY && !known {
        errors.push(FieldError::forbidden(
            "value",
            format!("maximum allowed value of a user defined priority is {MAX_PRIORITY}"),
        ));
    }
    let policy = path::str(value, "preemptionPolicy");
    if !matches!(policy, "" | "PreemptLowerPriority" | "Never") {
        errors.push(FieldError::not_supported("preemptionPolicy", policy, &["Never", "PreemptLowerPriority"]));
    }
    errors
}

pub(super) fn validate_priority_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::int(new, "value") != path::int(old, "value") {
        errors.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    errors.extend(workload::immutable(new, old, "preemptionPolicy"));
    errors
}

pub(super) fn default_storage(value: &mut Value) {
    let map = path::object(value);
    fill::set(map, "reclaimPolicy", "Delete");
    fill::set(map, "volumeBindingMode", "Immediate");
}

pub(super) fn validate_storage(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::str(value, "provisioner").is_empty() {
        errors.push(FieldError::required("provisioner", ""));
    }
    let reclaim = path::str(value, "reclaimPolicy");
    if !matches!(reclaim, "Delete" | "Retain") {
        errors.push(FieldError::not_supported("reclaimPolicy", reclaim, &["Delete", "Retain"]));
    }
    let mode = path::str(value, "volumeBindingMode");
    if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
        errors.push(FieldError::not_supported("volumeBindingMode", mode, &["Immediate", "WaitForFirstConsumer"]));
    }
    errors
}

pub(super) fn validate_storage_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !path::same(path::get(new, key), path::get(old, key)) {
            errors.push(FieldError::forbidden(key, format!("updates to {key} are forbidden.")));
        }
    }
    errors.extend(workload::immutable(new, old, "volumeBindingMode"));
    errors
}

pub(super) fn default_csi_driver(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "attachRequired", true);
    for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        fill::set(spec, key, false);
    }
    fill::set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    fill::set(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

pub(super) fn default_definition(value: &mut Value) {
    let spec = path::entry(value, "spec");
    let conversion = path::object(spec.entry("conversion").or_insert(json!({})));
    fill::set(conversion, "strategy", "None");
    if let Some(names) = fill::child(spec, "names") {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        fill::set(names, "singular", kind.to_lowercase());
        fill::set(names, "listKind", format!("{kind}List"));
    }
}
