//! What workloads have in common: replicas, a selector that must match the template and never changes. ReplicaSet,
//! ReplicationController and PodDisruptionBudget are no more than that, and stand here.

use serde_json::{Value, json};

use super::{fill, pod_template};
use crate::{Object, path, select::LabelSelector, status::FieldError};

pub(super) fn default_replica_set(value: &mut Value) {
    fill::set(path::entry(value, "spec"), "replicas", 1);
    pod_template::default(value, "spec.template");
}

/// The oldest workload takes its selector and labels from its template.
pub(super) fn default_replication_controller(value: &mut Value) {
    fill::set(path::entry(value, "spec"), "replicas", 1);
    pod_template::default(value, "spec.template");
    let labels = path::get(value, "spec.template.metadata.labels").clone();
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        if path::is_zero(path::get(value, "spec.selector")) {
            path::entry(value, "spec").insert("selector".to_owned(), labels.clone());
        }
        if path::is_zero(path::get(value, "metadata.labels")) {
            path::entry(value, "metadata").insert("labels".to_owned(), labels);
        }
    }
}

pub(super) fn validate_replica_set(value: &Value) -> Vec<FieldError> {
    let mut errors = non_negative(value, "spec", &["replicas", "minReadySeconds"]);
    errors.extend(selector_and_template(value, "replicaset"));
    errors
}

pub(super) fn validate_replication_controller(value: &Value) -> Vec<FieldError> {
    let mut errors = non_negative(value, "spec", &["replicas", "minReadySeconds"]);
    let selector = path::get(value, "spec.selector");
    match selector.as_object().filter(|s| !s.is_empty()) {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(map) => errors.extend(unmatched(value, &LabelSelector::from_map(map))),
    }
    errors.extend(template(value));
    errors
}

/// The selector of a ReplicaSet, Deployment, DaemonSet or Job never changes.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    immutable(new, old, "spec.selector").into_iter().collect()
}

pub(super) fn validate_disruption_budget(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let mut errors = Vec::new();
    if !path::get(spec, "minAvailable").is_null() && !path::get(spec, "maxUnavailable").is_null() {
        errors.push(FieldError::invalid("spec", spec.clone(), "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        errors.extend(count_or_percent(path::get(spec, key), &format!("spec.{key}")));
    }
    errors.extend(selector(path::get(spec, "selector"), "spec.selector"));
    errors
}

/// What is wrong with selector and template together.
pub(super) fn selector_and_template(value: &Value, kind: &str) -> Vec<FieldError> {
    let given = path::get(value, "spec.selector");
    let mut errors = Vec::new();
    if given.is_null() {
        errors.push(FieldError::required("spec.selector", ""));
    } else {
        errors.extend(selector(given, "spec.selector"));
        match LabelSelector::from_object(given) {
            Ok(parsed) if parsed.is_everything() => {
                errors.push(FieldError::invalid(
                    "spec.selector",
                    given.clone(),
                    format!("empty selector is invalid for {kind}"),
                ));
            }
            Ok(parsed) if errors.is_empty() => errors.extend(unmatched(value, &parsed)),
            _ => {}
        }
    }
    errors.extend(template(value));
    errors
}

fn template(value: &Value) -> Vec<FieldError> {
    if path::get(value, "spec.template").is_null() {
        return vec![FieldError::required("spec.template", "")];
    }
    pod_template::validate(value, "spec.template", Some(&["Always"]))
}

fn unmatched(value: &Value, selector: &LabelSelector) -> Option<FieldError> {
    let none = Object::new();
    let labels = path::map(value, "spec.template.metadata.labels").unwrap_or(&none);
    if selector.matches(labels) {
        return None;
    }
    Some(FieldError::invalid(
        "spec.template.metadata.labels",
        json!(labels),
        "`selector` does not match template `labels`",
    ))
}

/// What is wrong with a `metav1.LabelSelector`.
pub(super) fn selector(given: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = super::meta::labels(given, "matchLabels", &format!("{at}.matchLabels"));
    for (i, expression) in path::list(given, "matchExpressions").iter().enumerate() {
        let at = format!("{at}.matchExpressions[{i}]");
        let values = path::list(expression, "values");
        match path::str(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(FieldError::required(
                    format!("{at}.values"),
                    "must be specified when `operator` is 'In' or 'NotIn'",
                ));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{at}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(format!("{at}.operator"), other, "not a valid selector operator")),
        }
        let key = path::str(expression, "key");
        errors.extend(
            super::names::qualified_name(key).into_iter().map(|e| FieldError::invalid(format!("{at}.key"), key, e)),
        );
    }
    errors
}

/// Numbers that may not be below zero.
pub(super) fn non_negative(value: &Value, at: &str, keys: &[&str]) -> Vec<FieldError> {
    let parent = path::get(value, at);
    let wrong = keys.iter().filter_map(|key| path::int(parent, key).filter(|n| *n < 0).map(|n| (key, n)));
    wrong.map(|(key, n)| FieldError::invalid(format!("{at}.{key}"), n, "must be greater than or equal to 0")).collect()
}

/// What is wrong with a count or a percentage.
pub(super) fn count_or_percent(value: &Value, at: &str) -> Vec<FieldError> {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or("");
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
                    used for validation is '[0-9]+%')";
                return vec![FieldError::invalid(at, text.as_str(), detail)];
            }
            Vec::new()
        }
        other => {
            let wrong = other.as_i64().filter(|n| *n < 0);
            wrong.map(|n| FieldError::invalid(at, n, "must be greater than or equal to 0")).into_iter().collect()
        }
    }
}

/// A field that may not change.
pub(super) fn immutable(new: &Value, old: &Value, at: &str) -> Option<FieldError> {
    let (after, before) = (path::get(new, at), path::get(old, at));
    if path::same(after, before) { None } else { Some(FieldError::invalid(at, after.clone(), "field is immutable")) }
}
