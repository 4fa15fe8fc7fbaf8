//! Pod: the kind with the most rules. Defaults in [`default`], rules by part, updates in [`update`].

mod address;
mod container;
mod default;
mod env;
mod mount;
mod probe;
mod qos;
mod resources;
mod security;
mod spec;
mod update;
mod volume;

use serde_json::{Value, json};

use super::{Ctx, strategy};
use crate::{path, status::FieldError};

pub use qos::qos_class;

pub(super) use address::validate as validate_status;
pub(super) use default::spec as default_spec;
pub(super) use spec::validate as validate_spec;
pub(super) use update::validate as validate_update;

/// Fills in a pod: what a template has, and a little that only pods have.
pub(super) fn default(value: &mut Value) {
    default::spec(path::entry(value, "spec"), true);
    address::default(value);
}

/// A new pod is pending; its quality of service is known from its resources.
pub(super) fn prepare_create(value: &mut Value) {
    let mut status = json!({ "phase": "Pending", "qosClass": qos_class(value) });
    if !path::list(value, "spec.schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    value["status"] = status;
}

/// Subresources change a part of the spec, and only that.
pub(super) fn prepare_update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    match ctx.part() {
        "ephemeralcontainers" => {
            let containers = path::get(new, "spec.ephemeralContainers").clone();
            let metadata = new["metadata"].take();
            *new = old.clone();
            new["metadata"] = metadata;
            path::entry(new, "spec").insert("ephemeralContainers".to_owned(), containers);
        }
        "status" => {
            // The quality of service never changes.
            let class = path::get(old, "status.qosClass");
            if class.is_string() {
                path::entry(new, "status").insert("qosClass".to_owned(), class.clone());
            }
        }
        "" => strategy::keep(&mut new["spec"], &old["spec"], "ephemeralContainers"),
        _ => {}
    }
}

/// What is wrong with a pod.
pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = validate_spec(path::get(value, "spec"), "spec");
    if !path::list(value, "spec.ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !path::list(value, "spec.schedulingGates").is_empty() && !path::str(value, "spec.nodeName").is_empty() {
        errors
            .push(FieldError::forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"));
    }
    errors
}
