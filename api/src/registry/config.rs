//! ConfigMap, Secret, LimitRange, ResourceQuota: data and limits of a namespace.

use base64::Engine;
use serde_json::{Value, json};

use super::{fill, names, workload};
use crate::{path, quantity::Quantity, status::FieldError};

/// All values of a ConfigMap or Secret together.
const MAX_BYTES: usize = 1024 * 1024;

/// A Secret is Opaque, and `stringData` is only a way to write `data`.
pub(super) fn default_secret(value: &mut Value) {
    let map = path::object(value);
    fill::set(map, "type", "Opaque");
    let Some(Value::Object(plain)) = map.shift_remove("stringData") else { return };
    let data = path::object(map.entry("data").or_insert(json!({})));
    for (key, text) in plain {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or(""));
        data.insert(key, json!(encoded));
    }
}

/// A limit that names no default takes the maximum, and so on down.
pub(super) fn default_limit_range(value: &mut Value) {
    for limit in fill::items(path::entry(value, "spec"), "limits") {
        if limit.get("type") != Some(&json!("Container")) {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(Value::Object(source)) = limit.get(from).cloned() else { continue };
            let target = path::object(limit.entry(to).or_insert(json!({})));
            for (name, amount) in source {
                target.entry(name).or_insert(amount);
            }
        }
    }
}

pub(super) fn validate_config_map(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total = 0;
    for (key, text) in path::strings(value, "data") {
        errors.extend(names::config_key(key).into_iter().map(|e| FieldError::invalid(format!("data[{key}]"), key, e)));
        if path::map(value, "binaryData").is_some_and(|b| b.contains_key(key)) {
            errors.push(FieldError::invalid(format!("data[{key}]"), key, "duplicate of key present in binaryData"));
        }
        total += text.len();
    }
    for (key, text) in path::strings(value, "binaryData") {
        errors.extend(
            names::config_key(key).into_iter().map(|e| FieldError::invalid(format!("binaryData[{key}]"), key, e)),
        );
        total += text.len() / 4 * 3;
    }
    if total > MAX_BYTES {
        errors.push(FieldError::too_long("", MAX_BYTES));
    }
    errors
}

pub(super) fn validate_secret(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut total = 0;
    for (key, text) in path::strings(value, "data") {
        errors.extend(names::config_key(key).into_iter().map(|e| FieldError::invalid(format!("data[{key}]"), key, e)));
        total += text.len() / 4 * 3;
    }
    if total > MAX_BYTES {
        errors.push(FieldError::too_long("data", MAX_BYTES));
    }
    let needed: &[&str] = match path::str(value, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in needed {
        if path::map(value, "data").is_none_or(|d| !d.contains_key(*key)) {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
    if path::str(value, "type") == "kubernetes.io/service-account-token" {
        let account =
            path::map(value, "metadata.annotations").and_then(|a| a.get("kubernetes.io/service-account.name"));
        if account.is_none_or(path::is_zero) {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
    }
    errors
}

/// An immutable one stays as it is; a Secret's type never changes.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::str(old, "kind") == "Secret" || !path::str(old, "type").is_empty() {
        errors.extend(workload::immutable(new, old, "type"));
    }
    if !path::bool(old, "immutable") {
        return errors;
    }
    if !path::bool(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for key in ["data", "binaryData"] {
        if !path::same(path::get(new, key), path::get(old, key)) {
            errors.push(FieldError::forbidden(key, "field is immutable when `immutable` is set"));
        }
    }
    errors
}

pub(super) fn validate_quota(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in path::strings(value, "spec.hard") {
        if Quantity::parse(amount).is_ok_and(Quantity::is_negative) {
            errors.push(FieldError::invalid(
                format!("spec.hard[{name}]"),
                amount,
                "must be greater than or equal to 0",
            ));
        }
    }
    errors
}
