//! Ingress and IngressClass.

use serde_json::{Value, json};

use super::{fill, names};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    if let Some(parameters) = fill::child(path::object(value), "spec").and_then(|s| fill::child(s, "parameters")) {
        fill::set(parameters, "scope", "Cluster");
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let mut errors = Vec::new();
    let rules = path::list(spec, "rules");
    if rules.is_empty() && path::get(spec, "defaultBackend").is_null() {
        errors.push(FieldError::invalid(
            "spec",
            json!({ "rules": null }),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if let Some(backend) = spec.get("defaultBackend") {
        errors.extend(validate_backend(backend, "spec.defaultBackend"));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        let host = path::str(rule, "host");
        if !host.is_empty() {
            let plain = host.strip_prefix("*.").unwrap_or(host);
            errors.extend(
                names::dns1123_subdomain(plain).into_iter().map(|e| FieldError::invalid(format!("{at}.host"), host, e)),
            );
        }
        let Some(http) = rule.get("http") else { continue };
        let paths = path::list(http, "paths");
        if paths.is_empty() {
            errors.push(FieldError::required(format!("{at}.http.paths"), ""));
        }
        for (j, entry) in paths.iter().enumerate() {
            errors.extend(validate_path(entry, &format!("{at}.http.paths[{j}]")));
        }
    }
    errors
}

fn validate_path(entry: &Value, at: &str) -> Vec<FieldError> {
    let (kind, text) = (path::str(entry, "pathType"), path::str(entry, "path"));
    let mut errors = Vec::new();
    match kind {
        "" => errors.push(FieldError::required(format!("{at}.pathType"), "pathType must be specified")),
        "Exact" | "Prefix" if !text.starts_with('/') => {
            errors.push(FieldError::invalid(format!("{at}.path"), text, "must be an absolute path"));
        }
        "Exact" | "Prefix" | "ImplementationSpecific" => {}
        other => errors.push(FieldError::not_supported(
            format!("{at}.pathType"),
            other,
            &["Exact", "ImplementationSpecific", "Prefix"],
        )),
    }
    errors.extend(validate_backend(path::get(entry, "backend"), &format!("{at}.backend")));
    errors
}

fn validate_backend(backend: &Value, at: &str) -> Vec<FieldError> {
    match (backend.get("service"), backend.get("resource")) {
        (None, None) => vec![FieldError::required(at, "resource or service backend is required")],
        (Some(_), Some(_)) => vec![FieldError::invalid(at, "", "cannot set both resource and service backends")],
        (None, Some(_)) => Vec::new(),
        (Some(service), None) => {
            let mut errors = Vec::new();
            if path::str(service, "name").is_empty() {
                errors.push(FieldError::required(format!("{at}.service.name"), ""));
            }
            let (name, number) = (path::str(service, "port.name"), path::int(service, "port.number").unwrap_or(0));
            if name.is_empty() && number == 0 {
                errors.push(FieldError::required(at, "port name or number is required"));
            } else if !name.is_empty() && number != 0 {
                errors.push(FieldError::invalid(at, "", "cannot set both port name & port number"));
            }
            errors
        }
    }
}
