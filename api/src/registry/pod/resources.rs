//! Requests and limits: names, signs, and that no request exceeds its limit.

use serde_json::Value;

use crate::{path, quantity::Quantity, registry::names, status::FieldError};

/// What is wrong with a container's resources.
pub(super) fn validate(resources: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for part in ["limits", "requests"] {
        for (name, text) in path::strings(resources, part) {
            let at = format!("{at}.{part}[{name}]");
            errors.extend(name_errors(name, &at));
            if let Ok(amount) = Quantity::parse(text) {
                if amount.is_negative() {
                    errors.push(FieldError::invalid(&at, text, "must be greater than or equal to 0"));
                }
                if name.contains('/') && !amount.is_whole() {
                    errors.push(FieldError::invalid(&at, text, "must be an integer"));
                }
            }
        }
    }
    for (name, request) in path::strings(resources, "requests") {
        let limit = path::map(resources, "limits").and_then(|l| l.get(name)).and_then(Value::as_str);
        let exclusive = name.contains('/') || name.starts_with("hugepages-");
        match (limit, Quantity::parse(request)) {
            (Some(limit), Ok(amount)) => {
                let Ok(most) = Quantity::parse(limit) else { continue };
                if exclusive && amount != most {
                    let detail = format!("must be equal to {name} limit of {limit}");
                    errors.push(FieldError::invalid(format!("{at}.requests"), request, detail));
                } else if !exclusive && amount > most {
                    let detail = format!("must be less than or equal to {name} limit of {limit}");
                    errors.push(FieldError::invalid(format!("{at}.requests"), request, detail));
                }
            }
            (None, Ok(_)) if exclusive => {
                errors.push(FieldError::required(
                    format!("{at}.limits"),
                    "Limit must be set for non overcommitable resources",
                ));
            }
            _ => {}
        }
    }
    errors
}

fn name_errors(name: &str, at: &str) -> Vec<FieldError> {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        return wrong.into_iter().map(|e| FieldError::invalid(at, name, e)).collect();
    }
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if standard || name.contains('/') {
        return Vec::new();
    }
    vec![
        FieldError::invalid(at, name, "must be a standard resource type or fully qualified"),
        FieldError::invalid(at, name, "must be a standard resource for containers"),
    ]
}
