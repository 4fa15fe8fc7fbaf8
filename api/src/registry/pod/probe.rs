//! Probes and lifecycle hooks: one handler each, sane numbers.

use serde_json::Value;

use crate::{path, registry::names, status::FieldError};

/// What is wrong with a container's probes and hooks; plain init containers may have none.
pub(super) fn validate_all(container: &Value, at: &str, init: bool, grace: Option<i64>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sidecar = init && path::str(container, "restartPolicy") == "Always";
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(key) else { continue };
        let at = format!("{at}.{key}");
        if init && !sidecar {
            errors.push(FieldError::forbidden(at, "may not be set for init containers without restartPolicy=Always"));
            continue;
        }
        errors.extend(probe_errors(probe, &at, key));
    }
    if init && !sidecar && container.get("lifecycle").is_some() {
        let text = "may not be set for init containers without restartPolicy=Always";
        errors.push(FieldError::forbidden(format!("{at}.lifecycle"), text));
        return errors;
    }
    for hook in ["postStart", "preStop"] {
        let at = format!("{at}.lifecycle.{hook}");
        if let Some(handler) = path::get(container, "lifecycle").get(hook) {
            errors.extend(handler_errors(handler, &at, &["exec", "httpGet", "tcpSocket", "sleep"]));
            errors.extend(sleep_errors(path::get(handler, "sleep"), &format!("{at}.sleep"), grace));
        }
    }
    errors
}

/// A hook that sleeps must wake while the pod still ends.
fn sleep_errors(sleep: &Value, at: &str, grace: Option<i64>) -> Option<FieldError> {
    let (seconds, grace) = (path::int(sleep, "seconds")?, grace?);
    let text = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
    (seconds < 0 || seconds > grace).then(|| FieldError::invalid(at, seconds, text))
}

fn probe_errors(probe: &Value, at: &str, key: &str) -> Vec<FieldError> {
    let mut errors = handler_errors(probe, at, &["exec", "httpGet", "tcpSocket", "grpc"]);
    for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(value) = path::int(probe, number).filter(|v| *v < 0) {
            errors.push(FieldError::invalid(format!("{at}.{number}"), value, "must be greater than or equal to 0"));
        }
    }
    let success = path::int(probe, "successThreshold").unwrap_or(1);
    if key != "readinessProbe" && success != 1 {
        errors.push(FieldError::invalid(format!("{at}.successThreshold"), success, "must be 1"));
    }
    if let Some(grace) = path::int(probe, "terminationGracePeriodSeconds") {
        if key == "readinessProbe" {
            errors.push(FieldError::invalid(
                format!("{at}.terminationGracePeriodSeconds"),
                grace,
                "must not be set for readinessProbes",
            ));
        } else if grace <= 0 {
            errors.push(FieldError::invalid(
                format!("{at}.terminationGracePeriodSeconds"),
                grace,
                "must be greater than 0",
            ));
        }
    }
    errors
}

fn handler_errors(handler: &Value, at: &str, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = 0;
    for kind in kinds {
        let Some(action) = handler.get(*kind) else { continue };
        let at = format!("{at}.{kind}");
        found += 1;
        if found > 1 {
            errors.push(FieldError::forbidden(at, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if path::list(action, "command").is_empty() => {
                errors.push(FieldError::required(format!("{at}.command"), ""));
            }
            "httpGet" => errors.extend(http_errors(action, &at)),
            "tcpSocket" => errors.extend(port_errors(path::get(action, "port"), &format!("{at}.port"))),
            "grpc" => {
                let port = path::int(action, "port").unwrap_or(0);
                errors.extend(names::port_number(port).map(|e| FieldError::invalid(format!("{at}.port"), port, e)));
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.push(FieldError::required(at, "must specify a handler type"));
    }
    errors
}

fn http_errors(get: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::str(get, "path").is_empty() {
        errors.push(FieldError::required(format!("{at}.path"), ""));
    }
    errors.extend(port_errors(path::get(get, "port"), &format!("{at}.port")));
    let scheme = path::str(get, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(FieldError::not_supported(format!("{at}.scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    errors
}

/// A port by number or by name.
fn port_errors(port: &Value, at: &str) -> Vec<FieldError> {
    match port {
        Value::String(name) => {
            names::port_name(name).into_iter().map(|e| FieldError::invalid(at, name.as_str(), e)).collect()
        }
        other => {
            let number = other.as_i64().unwrap_or(0);
            names::port_number(number).map(|e| FieldError::invalid(at, number, e)).into_iter().collect()
        }
    }
}
