//! PersistentVolume and PersistentVolumeClaim.

use serde_json::{Value, json};

use super::fill;
use crate::{path, quantity::Quantity, status::FieldError};

pub(super) fn default_volume(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill::set(spec, "volumeMode", "Filesystem");
    if let Some(path) = fill::child(spec, "hostPath") {
        path.entry("type").or_insert(json!(""));
    }
}

pub(super) fn default_claim(value: &mut Value) {
    fill::set(path::entry(value, "spec"), "volumeMode", "Filesystem");
}

pub(super) fn prepare_create(value: &mut Value) {
    value["status"] = json!({ "phase": "Pending" });
}

pub(super) fn validate_volume(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let mut errors = access_modes(spec);
    match path::map(spec, "capacity").and_then(|c| c.get("storage")).and_then(Value::as_str) {
        None => errors.push(FieldError::required("spec.capacity", "")),
        Some(text) => errors.extend(positive(text, "spec.capacity[storage]")),
    }
    let policy = path::str(spec, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "Delete" | "Recycle" | "Retain") {
        errors.push(FieldError::not_supported(
            "spec.persistentVolumeReclaimPolicy",
            policy,
            &["Delete", "Recycle", "Retain"],
        ));
    }
    errors
}

pub(super) fn validate_claim(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let mut errors = access_modes(spec);
    match path::map(spec, "resources.requests").and_then(|r| r.get("storage")).and_then(Value::as_str) {
        None => errors.push(FieldError::required("spec.resources[storage]", "")),
        Some(text) => errors.extend(positive(text, "spec.resources[storage]")),
    }
    errors
}

fn access_modes(spec: &Value) -> Vec<FieldError> {
    const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let modes = path::list(spec, "accessModes");
    if modes.is_empty() {
        return vec![FieldError::required("spec.accessModes", "at least 1 access mode is required")];
    }
    let wrong = modes.iter().filter_map(Value::as_str).filter(|mode| !MODES.contains(mode));
    wrong.map(|mode| FieldError::not_supported("spec.accessModes", mode, MODES)).collect()
}

fn positive(text: &str, at: &str) -> Option<FieldError> {
    let wrong = Quantity::parse(text).is_ok_and(|q| q.is_negative() || q.is_zero());
    wrong.then(|| FieldError::invalid(at, text, "must be greater than zero"))
}

/// After creation only the size may grow, and the binder may fill in the volume.
pub(super) fn validate_claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let rest = |value: &Value| {
        let mut spec = value["spec"].clone();
        let map = path::object(&mut spec);
        map.shift_remove("resources");
        map.shift_remove("volumeAttributesClassName");
        for key in ["volumeName", "storageClassName"] {
            if path::get(old, "spec").get(key).is_none() {
                map.shift_remove(key);
            }
        }
        spec
    };
    if !path::same(&rest(new), &rest(old)) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
        return vec![FieldError::forbidden("spec", detail)];
    }
    Vec::new()
}
