//! ObjectMeta's rules: names per kind, labels, annotations, owners, finalizers, and what an update may not change.

use serde_json::Value;

use super::names;
use crate::{path, schema::Row, status::FieldError};

/// All annotations together, keys and values.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What is wrong with an object's metadata.
pub(super) fn validate(row: &Row, value: &Value) -> Vec<FieldError> {
    let mut errors = validate_name(row, value);
    let metadata = path::get(value, "metadata");
    errors.extend(labels(metadata, "labels", "metadata.labels"));
    errors.extend(annotations(metadata, "metadata.annotations"));
    errors.extend(owners(metadata));
    errors.extend(finalizers(metadata));
    if path::int(metadata, "generation").is_some_and(|g| g < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("metadata.generation", metadata["generation"].clone(), detail));
    }
    errors
}

/// What is wrong with an update of it.
pub(super) fn validate_update(row: &Row, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(row, new);
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (path::get(new, "metadata").get(key), path::get(old, "metadata").get(key));
        if new != old {
            let value = new.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(format!("metadata.{key}"), value, "field is immutable"));
        }
    }
    errors
}

fn validate_name(row: &Row, value: &Value) -> Vec<FieldError> {
    let (name, generate) = (path::str(value, "metadata.name"), path::str(value, "metadata.generateName"));
    let check = name_rule(row);
    let mut errors = Vec::new();
    if !generate.is_empty() {
        // A prefix may end in what a name may not.
        let prefix = generate.strip_suffix('-').map_or_else(|| generate.to_owned(), |p| format!("{p}a"));
        errors.extend(check(&prefix).into_iter().map(|e| FieldError::invalid("metadata.generateName", generate, e)));
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        errors.extend(check(name).into_iter().map(|e| FieldError::invalid("metadata.name", name, e)));
    }
    errors
}

/// Which names a kind may have.
fn name_rule(row: &Row) -> names::Rule {
    match (row.group, row.kind) {
        ("", "Namespace") => names::dns1123_label,
        ("", "Service") => names::dns1035_label,
        ("rbac.authorization.k8s.io" | "flowcontrol.apiserver.k8s.io" | "apiregistration.k8s.io", _) => {
            names::path_segment
        }
        ("networking.k8s.io", "IPAddress") => |_| Vec::new(),
        _ => names::dns1123_subdomain,
    }
}

/// What is wrong with a map of labels.
pub(super) fn labels(owner: &Value, key: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in path::strings(owner, key) {
        errors.extend(names::qualified_name(key).into_iter().map(|e| FieldError::invalid(field, key, e)));
        errors.extend(names::label_value(value).into_iter().map(|e| FieldError::invalid(field, value, e)));
    }
    errors
}

/// What is wrong with a map of annotations.
pub(super) fn annotations(metadata: &Value, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total = 0;
    for (key, value) in path::strings(metadata, "annotations") {
        let lower = key.to_lowercase();
        errors.extend(names::qualified_name(&lower).into_iter().map(|e| FieldError::invalid(field, key, e)));
        total += key.len() + value.len();
    }
    if total > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long(field, MAX_ANNOTATIONS));
    }
    errors
}

fn owners(metadata: &Value) -> Vec<FieldError> {
    const FIELD: &str = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let mut controller: Option<&str> = None;
    for owner in path::list(metadata, "ownerReferences") {
        let version = path::str(owner, "apiVersion");
        if version.is_empty() {
            errors.push(FieldError::invalid(format!("{FIELD}.apiVersion"), version, "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if path::str(owner, key).is_empty() {
                errors.push(FieldError::invalid(format!("{FIELD}.{key}"), "", "must not be empty"));
            }
        }
        if (version, path::str(owner, "kind")) == ("v1", "Event") {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(FIELD, owner.clone(), detail));
        }
        if path::bool(owner, "controller") {
            let name = path::str(owner, "name");
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.push(FieldError::invalid(FIELD, metadata["ownerReferences"].clone(), detail));
            }
            controller = Some(name);
        }
    }
    errors
}

fn finalizers(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut propagation = 0;
    for (i, finalizer) in path::list(metadata, "finalizers").iter().filter_map(Value::as_str).enumerate() {
        let standard = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
        propagation += usize::from(matches!(finalizer, "orphan" | "foregroundDeletion"));
        errors.extend(
            names::qualified_name(finalizer)
                .into_iter()
                .map(|e| FieldError::invalid("metadata.finalizers", finalizer, e)),
        );
        if !standard && !finalizer.contains('/') {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{i}]"), finalizer, detail));
        }
    }
    if propagation > 1 {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid("metadata.finalizers", metadata["finalizers"].clone(), detail));
    }
    errors
}
