//! A container's mounts: of volumes that are there, at places of their own, and no way out by `subPath`.

use std::collections::HashSet;

use serde_json::Value;

use super::container::Around;
use crate::{path, status::FieldError};

/// What is wrong with a container's mounts.
pub(super) fn validate(container: &Value, at: &str, around: &Around<'_>) -> Vec<FieldError> {
    let privileged = path::bool(container, "securityContext.privileged");
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, mount) in path::list(container, "volumeMounts").iter().enumerate() {
        let at = format!("{at}[{i}]");
        let (name, place) = (path::str(mount, "name"), path::str(mount, "mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !around.volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{at}.name"), name));
        }
        if place.is_empty() {
            errors.push(FieldError::required(format!("{at}.mountPath"), ""));
        }
        if !seen.insert(place) {
            errors.push(FieldError::invalid(format!("{at}.mountPath"), place, "must be unique"));
        }
        errors.extend(sub_paths(mount, &at));
        errors.extend(propagation(path::str(mount, "mountPropagation"), &at, privileged));
    }
    errors
}

fn sub_paths(mount: &Value, at: &str) -> Vec<FieldError> {
    let (sub, expression) = (path::str(mount, "subPath"), path::str(mount, "subPathExpr"));
    let mut errors = descending(sub, &format!("{at}.subPath"));
    if !sub.is_empty() && !expression.is_empty() {
        let text = "subPathExpr and subPath are mutually exclusive";
        errors.push(FieldError::invalid(format!("{at}.subPathExpr"), expression, text));
    }
    errors.extend(descending(expression, &format!("{at}.subPathExpr")));
    errors
}

fn descending(place: &str, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if place.starts_with('/') {
        errors.push(FieldError::invalid(at, place, "must be a relative path"));
    }
    if place.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(at, place, "must not contain '..'"));
    }
    errors
}

fn propagation(mode: &str, at: &str, privileged: bool) -> Option<FieldError> {
    let at = format!("{at}.mountPropagation");
    match mode {
        "" | "None" | "HostToContainer" => None,
        "Bidirectional" if privileged => None,
        "Bidirectional" => {
            let text = "Bidirectional mount propagation is available only to privileged containers";
            Some(FieldError::forbidden(at, text))
        }
        other => Some(FieldError::not_supported(at, other, &["Bidirectional", "HostToContainer", "None"])),
    }
}
