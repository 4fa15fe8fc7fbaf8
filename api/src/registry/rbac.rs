//! Roles and bindings: groups filled in, rules whole, and what a binding grants never changes.

use serde_json::Value;

use super::{fill, workload};
use crate::{path, schema::Row, status::FieldError};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn default(value: &mut Value) {
    let map = path::object(value);
    if let Some(reference) = fill::child(map, "roleRef") {
        fill::set(reference, "apiGroup", GROUP);
    }
    for subject in fill::items(map, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            fill::set(subject, "apiGroup", GROUP);
        }
    }
}

pub(super) fn validate(row: &Row, value: &Value) -> Vec<FieldError> {
    match row.kind {
        "Role" | "ClusterRole" => {
            let rules = path::list(value, "rules").iter().enumerate();
            rules.flat_map(|(i, rule)| validate_rule(rule, &format!("rules[{i}]"), row.kind == "Role")).collect()
        }
        _ => validate_binding(value, row.kind == "RoleBinding"),
    }
}

fn validate_rule(rule: &Value, at: &str, namespaced: bool) -> Vec<FieldError> {
    let has = |key: &str| !path::list(rule, key).is_empty();
    let mut errors = Vec::new();
    if !has("verbs") {
        errors.push(FieldError::required(format!("{at}.verbs"), "verbs must contain at least one value"));
    }
    if has("nonResourceURLs") {
        if namespaced {
            let urls = path::get(rule, "nonResourceURLs").clone();
            errors.push(FieldError::invalid(
                format!("{at}.nonResourceURLs"),
                urls,
                "namespaced rules cannot apply to non-resource URLs",
            ));
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            let urls = path::get(rule, "nonResourceURLs").clone();
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(format!("{at}.nonResourceURLs"), urls, detail));
        }
        return errors;
    }
    if !has("apiGroups") {
        errors
            .push(FieldError::required(format!("{at}.apiGroups"), "resource rules must supply at least one api group"));
    }
    if !has("resources") {
        errors
            .push(FieldError::required(format!("{at}.resources"), "resource rules must supply at least one resource"));
    }
    errors
}

fn validate_binding(value: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (group, kind, name) =
        (path::str(value, "roleRef.apiGroup"), path::str(value, "roleRef.kind"), path::str(value, "roleRef.name"));
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
    }
    if name.is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    for (i, subject) in path::list(value, "subjects").iter().enumerate() {
        errors.extend(validate_subject(subject, &format!("subjects[{i}]"), namespaced));
    }
    errors
}

fn validate_subject(subject: &Value, at: &str, namespaced: bool) -> Vec<FieldError> {
    let (kind, group) = (path::str(subject, "kind"), path::str(subject, "apiGroup"));
    let mut errors = Vec::new();
    if path::str(subject, "name").is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    }
    match kind {
        "ServiceAccount" => {
            if !group.is_empty() {
                errors.push(FieldError::not_supported(format!("{at}.apiGroup"), group, &[""]));
            }
            if !namespaced && path::str(subject, "namespace").is_empty() {
                errors.push(FieldError::required(format!("{at}.namespace"), ""));
            }
        }
        "User" | "Group" if group != GROUP => {
            errors.push(FieldError::not_supported(format!("{at}.apiGroup"), group, &[GROUP]));
        }
        "User" | "Group" => {}
        other => {
            errors.push(FieldError::not_supported(format!("{at}.kind"), other, &["ServiceAccount", "User", "Group"]));
        }
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let error = workload::immutable(new, old, "roleRef");
    error
        .map(|mut e| {
            e.detail = "cannot change roleRef".to_owned();
            e
        })
        .into_iter()
        .collect()
}
