//! Environment variables: names, and where their values come from.

use serde_json::Value;

use crate::{path, registry::names, status::FieldError};

/// Fields of a pod that a variable may show.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const SOURCES: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// What is wrong with a container's environment.
pub(super) fn validate(container: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, variable) in path::list(container, "env").iter().enumerate() {
        let at = format!("{at}.env[{i}]");
        let name = path::str(variable, "name");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            errors.extend(names::env_name(name).map(|e| FieldError::invalid(format!("{at}.name"), name, e)));
        }
        if path::get(variable, "valueFrom").is_object() {
            errors.extend(value_from(variable, &format!("{at}.valueFrom")));
        }
    }
    for (i, source) in path::list(container, "envFrom").iter().enumerate() {
        errors.extend(env_from(source, &format!("{at}.envFrom[{i}]")));
    }
    errors
}

fn value_from(variable: &Value, at: &str) -> Vec<FieldError> {
    let from = path::get(variable, "valueFrom");
    let mut errors = Vec::new();
    let count = SOURCES.iter().filter(|key| from.get(**key).is_some()).count();
    if count == 0 {
        let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(at, "", text));
    } else if !path::str(variable, "value").is_empty() {
        errors.push(FieldError::invalid(at, "", "may not be specified when `value` is not empty"));
    }
    if count > 1 {
        errors.push(FieldError::invalid(at, "", "may not have more than one field specified at a time"));
    }
    if let Some(reference) = from.get("fieldRef") {
        let field = path::str(reference, "fieldPath");
        let subscripted = field.starts_with("metadata.labels['") || field.starts_with("metadata.annotations['");
        if field.is_empty() {
            errors.push(FieldError::required(format!("{at}.fieldRef.fieldPath"), ""));
        } else if !FIELDS.contains(&field) && !subscripted {
            errors.push(FieldError::not_supported(format!("{at}.fieldRef.fieldPath"), field, FIELDS));
        }
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = from.get(key) {
            for part in ["name", "key"].iter().filter(|part| path::str(reference, part).is_empty()) {
                errors.push(FieldError::required(format!("{at}.{key}.{part}"), ""));
            }
        }
    }
    if let Some(reference) = from.get("resourceFieldRef") {
        let resource = path::str(reference, "resource");
        let plain = [
            "limits.cpu",
            "limits.memory",
            "limits.ephemeral-storage",
            "requests.cpu",
            "requests.memory",
            "requests.ephemeral-storage",
        ];
        if resource.is_empty() {
            errors.push(FieldError::required(format!("{at}.resourceFieldRef.resource"), ""));
        } else if !plain.contains(&resource) && !resource.contains(".hugepages-") {
            errors.push(FieldError::not_supported(format!("{at}.resourceFieldRef.resource"), resource, &plain));
        }
    }
    errors
}

fn env_from(source: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sources: Vec<&str> =
        ["configMapRef", "secretRef"].into_iter().filter(|key| source.get(*key).is_some()).collect();
    for key in &sources {
        if path::str(path::get(source, key), "name").is_empty() {
            errors.push(FieldError::required(format!("{at}.{key}.name"), ""));
        }
    }
    match sources.len() {
        0 => errors.push(FieldError::invalid(at, "", "must specify one of: `configMapRef` or `secretRef`")),
        1 => {}
        _ => errors.push(FieldError::invalid(at, "", "may not have more than one field specified at a time")),
    }
    errors
}
