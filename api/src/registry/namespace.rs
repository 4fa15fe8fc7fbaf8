//! Namespace: its name as a label, its finalizer, its phase.

use serde_json::{Value, json};

use super::{Ctx, strategy};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let name = path::str(value, "metadata.name").to_owned();
    if !name.is_empty() {
        path::entry(value, "metadata.labels").insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    }
}

pub(super) fn prepare_create(value: &mut Value) {
    default(value); // A generated name is known only now.
    value["status"] = json!({ "phase": "Active" });
    let finalizers = path::entry(value, "spec").entry("finalizers").or_insert(json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.contains(&json!("kubernetes"))
    {
        list.push(json!("kubernetes"));
    }
}

/// Only `finalize` changes the finalizers.
pub(super) fn prepare_update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    if ctx.part() != "finalize" {
        strategy::keep(new, old, "spec");
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, finalizer) in path::list(value, "spec.finalizers").iter().filter_map(Value::as_str).enumerate() {
        if finalizer != "kubernetes" && !finalizer.contains('/') {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("spec.finalizers[{i}]"), finalizer, detail));
        }
    }
    errors
}
