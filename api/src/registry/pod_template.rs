//! The pod template within workloads: its defaults and its validation at any path.

use serde_json::Value;

use super::{meta, pod};
use crate::{path, status::FieldError};

/// Fills in the template at a dotted path.
pub(super) fn default(value: &mut Value, at: &str) {
    if path::get(value, at).is_object() {
        pod::default_spec(path::entry(value, &format!("{at}.spec")), false);
    }
}

/// What is wrong with the template at a dotted path; its restart policy must be among the given ones.
pub(super) fn validate(value: &Value, at: &str, restart: Option<&[&str]>) -> Vec<FieldError> {
    let template = path::get(value, at);
    let mut errors = meta::labels(path::get(template, "metadata"), "labels", &format!("{at}.metadata.labels"));
    errors.extend(meta::annotations(path::get(template, "metadata"), &format!("{at}.metadata.annotations")));
    errors.extend(pod::validate_spec(path::get(template, "spec"), &format!("{at}.spec")));
    if let Some(allowed) = restart {
        let policy = path::str(template, "spec.restartPolicy");
        if !allowed.contains(&policy) {
            errors.push(FieldError::not_supported(format!("{at}.spec.restartPolicy"), policy, allowed));
        }
    }
    if !path::list(template, "spec.ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden(
            format!("{at}.spec.ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
    errors
}
