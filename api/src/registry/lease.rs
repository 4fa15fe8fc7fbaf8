//! Lease: positive durations.

use serde_json::Value;

use crate::{path, status::FieldError};

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(seconds) = path::int(value, "spec.leaseDurationSeconds").filter(|s| *s <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    if let Some(count) = path::int(value, "spec.leaseTransitions").filter(|c| *c < 0) {
        errors.push(FieldError::invalid("spec.leaseTransitions", count, "must be greater than or equal to 0"));
    }
    errors
}
