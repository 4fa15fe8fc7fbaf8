//! Containers: names, images, ports; environment, mounts, probes, resources and security have files of their own.

use std::collections::HashSet;

use serde_json::Value;

use super::{env, mount, probe, resources, security};
use crate::{path, registry::names, status::FieldError};

/// What containers need to know of their pod.
pub(super) struct Around<'a> {
    pub(super) volumes: &'a HashSet<String>,
    pub(super) host_network: bool,
    /// The seconds that a pod has to end.
    pub(super) grace: Option<i64>,
}

/// What is wrong with all containers of a spec.
pub(super) fn validate_all(spec: &Value, at: &str, around: &Around<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if path::list(spec, "containers").is_empty() {
        errors.push(FieldError::required(format!("{at}.containers"), ""));
    }
    let mut seen = HashSet::new();
    let mut host_ports = HashSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, container) in path::list(spec, list).iter().enumerate() {
            let at = format!("{at}.{list}[{i}]");
            errors.extend(validate(container, &at, around, list));
            let name = path::str(container, "name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), name));
            }
            if list == "containers" {
                errors.extend(host_port_conflicts(container, &at, &mut host_ports));
            }
        }
    }
    errors
}

fn validate(container: &Value, at: &str, around: &Around<'_>, list: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = path::str(container, "name");
    if name.is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    } else {
        errors
            .extend(names::dns1123_label(name).into_iter().map(|e| FieldError::invalid(format!("{at}.name"), name, e)));
    }
    errors.extend(image(container, at));
    errors.extend(ports(path::list(container, "ports"), &format!("{at}.ports"), around));
    errors.extend(env::validate(container, at));
    errors.extend(mount::validate(container, &format!("{at}.volumeMounts"), around));
    errors.extend(probe::validate_all(container, at, list == "initContainers", around.grace));
    errors.extend(security::validate(path::get(container, "securityContext"), &format!("{at}.securityContext")));
    errors.extend(resources::validate(path::get(container, "resources"), &format!("{at}.resources")));
    errors.extend(policies(container, at, list));
    errors
}

fn image(container: &Value, at: &str) -> Vec<FieldError> {
    let image = path::str(container, "image");
    if image.is_empty() {
        return vec![FieldError::required(format!("{at}.image"), "")];
    }
    if image.trim() != image {
        return vec![FieldError::invalid(format!("{at}.image"), image, "must not have leading or trailing whitespace")];
    }
    Vec::new()
}

fn policies(container: &Value, at: &str, list: &str) -> Vec<FieldError> {
    const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
    const MESSAGE: &[&str] = &["FallbackToLogsOnError", "File"];
    let mut errors = Vec::new();
    for (key, allowed) in [("imagePullPolicy", PULL), ("terminationMessagePolicy", MESSAGE)] {
        let value = path::str(container, key);
        if value.is_empty() {
            errors.push(FieldError::required(format!("{at}.{key}"), ""));
        } else if !allowed.contains(&value) {
            errors.push(FieldError::not_supported(format!("{at}.{key}"), value, allowed));
        }
    }
    let restart = path::str(container, "restartPolicy");
    if list == "initContainers" && !matches!(restart, "" | "Always" | "Never" | "OnFailure") {
        errors.push(FieldError::not_supported(
            format!("{at}.restartPolicy"),
            restart,
            &["Always", "Never", "OnFailure"],
        ));
    }
    errors
}

fn ports(list: &[Value], at: &str, around: &Around<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let name = path::str(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            errors.extend(wrong.iter().map(|e| FieldError::invalid(format!("{at}.name"), name, e.as_str())));
            if wrong.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
        let number = path::int(port, "containerPort").unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(format!("{at}.containerPort"), ""));
        } else {
            errors.extend(
                names::port_number(number).map(|e| FieldError::invalid(format!("{at}.containerPort"), number, e)),
            );
        }
        let host = path::int(port, "hostPort").unwrap_or(0);
        if host != 0 {
            errors.extend(names::port_number(host).map(|e| FieldError::invalid(format!("{at}.hostPort"), host, e)));
        }
        if around.host_network && host != 0 && host != number {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(format!("{at}.containerPort"), number, detail));
        }
        errors.extend(names::protocol(path::str(port, "protocol"), &format!("{at}.protocol")));
    }
    errors
}

fn host_port_conflicts(container: &Value, at: &str, seen: &mut HashSet<String>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, port) in path::list(container, "ports").iter().enumerate() {
        let Some(number) = path::int(port, "hostPort").filter(|p| *p != 0) else { continue };
        let key = format!("{}/{}/{number}", path::str(port, "protocol"), path::str(port, "hostIP"));
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(format!("{at}.ports[{i}].hostPort"), key));
        }
    }
    errors
}
