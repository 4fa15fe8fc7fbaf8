//! A container's security context: users in range, and no contradictions.

use serde_json::Value;

use crate::{path, status::FieldError};

/// What is wrong with a container's security context.
pub(super) fn validate(context: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in ["runAsUser", "runAsGroup"] {
        if let Some(value) = path::int(context, key).filter(|value| !(0..=i64::from(i32::MAX)).contains(value)) {
            let text = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(format!("{at}.{key}"), value, text));
        }
    }
    errors.extend(seccomp(path::get(context, "seccompProfile"), &format!("{at}.seccompProfile")));
    if path::get(context, "allowPrivilegeEscalation") == &Value::Bool(false) {
        let mut contradiction = |text: &str| errors.push(FieldError::invalid(at, context.clone(), text));
        if path::bool(context, "privileged") {
            contradiction("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if path::list(context, "capabilities.add").iter().any(|name| name == "CAP_SYS_ADMIN") {
            contradiction("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    errors
}

/// What is wrong with a seccomp profile, a pod's or a container's.
pub(super) fn seccomp(profile: &Value, at: &str) -> Vec<FieldError> {
    if !profile.is_object() {
        return Vec::new();
    }
    let file = path::get(profile, "localhostProfile");
    match path::str(profile, "type") {
        "Localhost" if !file.is_string() => {
            let text = "must be set when seccomp type is Localhost ";
            vec![FieldError::required(format!("{at}.localhostProfile"), text)]
        }
        "Localhost" => Vec::new(),
        "RuntimeDefault" | "Unconfined" if file.is_null() => Vec::new(),
        "RuntimeDefault" | "Unconfined" => {
            let text = "can only be set when seccomp type is Localhost";
            vec![FieldError::invalid(format!("{at}.localhostProfile"), file.clone(), text)]
        }
        "" => vec![FieldError::required(format!("{at}.type"), "type is required when seccompProfile is set")],
        other => {
            let known = ["Localhost", "RuntimeDefault", "Unconfined"];
            vec![FieldError::not_supported(format!("{at}.type"), other, &known)]
        }
    }
}
