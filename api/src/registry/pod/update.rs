//! What may change in a pod that is there: images, deadlines, added tolerations; by subresources a little more.

use serde_json::Value;

use super::spec;
use crate::{path, registry::Ctx, status::FieldError};

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with an update.
pub(in crate::registry) fn validate(ctx: &Ctx<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
    match ctx.part() {
        "binding" | "resize" => Vec::new(),
        "ephemeralcontainers" => ephemeral_containers(new, old),
        _ => main_resource(new, old),
    }
}

fn main_resource(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["containers", "initContainers"] {
        let (after, before) = (path::list(&new["spec"], list), path::list(&old["spec"], list));
        if after.len() != before.len() {
            errors.push(FieldError::forbidden(format!("spec.{list}"), "pod updates may not add or remove containers"));
        }
        for (i, _) in after.iter().enumerate().filter(|(_, c)| path::str(c, "image").is_empty()) {
            errors.push(FieldError::required(format!("spec.{list}[{i}].image"), ""));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    errors.extend(deadline(new, old));
    errors.extend(tolerations(new, old));
    errors.extend(gates(new, old));
    if !path::same(&rest(new), &rest(old)) && errors.is_empty() {
        errors.push(FieldError::forbidden("spec", format!("{ONLY}\n")));
    }
    errors
}

/// The spec without what may change.
fn rest(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    let map = path::object(&mut spec);
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        map.shift_remove(key);
    }
    for list in ["containers", "initContainers"] {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            path::object(container).shift_remove("image");
        }
    }
    spec
}

fn deadline(new: &Value, old: &Value) -> Option<FieldError> {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    match (path::int(new, FIELD), path::int(old, FIELD)) {
        (Some(after), _) if !(0..=i64::from(i32::MAX)).contains(&after) => {
            Some(FieldError::invalid(FIELD, after, "must be between 0 and 2147483647, inclusive"))
        }
        (Some(after), Some(before)) if after > before => {
            Some(FieldError::invalid(FIELD, after, "must be less than or equal to previous value"))
        }
        (None, Some(_)) => {
            Some(FieldError::invalid(FIELD, Value::Null, "must not update from a positive integer to nil value"))
        }
        _ => None,
    }
}

fn tolerations(new: &Value, old: &Value) -> Vec<FieldError> {
    let (after, before) = (path::list(new, "spec.tolerations"), path::list(old, "spec.tolerations"));
    if before
        .iter()
        .any(|toleration| !after.contains(toleration) && !after.iter().any(|a| only_seconds_differ(a, toleration)))
    {
        return vec![FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        )];
    }
    spec::tolerations(after, "spec.tolerations")
}

fn only_seconds_differ(a: &Value, b: &Value) -> bool {
    ["key", "operator", "value", "effect"].iter().all(|key| path::str(a, key) == path::str(b, key))
}

fn gates(new: &Value, old: &Value) -> Vec<FieldError> {
    let (after, before) = (path::list(new, "spec.schedulingGates"), path::list(old, "spec.schedulingGates"));
    if after.iter().all(|gate| before.contains(gate)) {
        return Vec::new();
    }
    let detail = "only deletion is allowed, but found new scheduling gates";
    vec![FieldError::forbidden("spec.schedulingGates", detail)]
}

fn ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    const FIELD: &str = "spec.ephemeralContainers";
    let (after, before) = (path::list(new, FIELD), path::list(old, FIELD));
    if before.iter().any(|container| !after.contains(container)) {
        return vec![FieldError::forbidden(FIELD, "existing ephemeral containers may not be changed or removed")];
    }
    spec::validate(path::get(new, "spec"), "spec")
}
