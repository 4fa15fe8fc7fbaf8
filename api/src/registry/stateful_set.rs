//! StatefulSet: ordered, and almost nothing of it may change.

use serde_json::{Value, json};

use super::{fill, pod_template, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "podManagementPolicy", "OrderedReady");
    let strategy = path::object(spec.entry("updateStrategy").or_insert(json!({})));
    fill::set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = path::object(strategy.entry("rollingUpdate").or_insert(json!({})));
        fill::set(rolling, "partition", 0);
    }
    fill::set(spec, "replicas", 1);
    fill::set(spec, "revisionHistoryLimit", 10);
    let retention = path::object(spec.entry("persistentVolumeClaimRetentionPolicy").or_insert(json!({})));
    fill::set(retention, "whenDeleted", "Retain");
    fill::set(retention, "whenScaled", "Retain");
    for claim in fill::items(spec, "volumeClaimTemplates") {
        fill::set(claim, "apiVersion", "v1");
        fill::set(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = fill::child(claim, "spec") {
            fill::set(spec, "volumeMode", "Filesystem");
        }
        claim.entry("status").or_insert(json!({ "phase": "Pending" }));
    }
    pod_template::default(value, "spec.template");
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = workload::non_negative(value, "spec", &["replicas", "minReadySeconds", "revisionHistoryLimit"]);
    let policy = path::str(value, "spec.podManagementPolicy");
    if !matches!(policy, "OrderedReady" | "Parallel") {
        let detail = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid("spec.podManagementPolicy", policy, detail));
    }
    let strategy = path::str(value, "spec.updateStrategy.type");
    if !matches!(strategy, "RollingUpdate" | "OnDelete") {
        errors.push(FieldError::invalid(
            "spec.updateStrategy",
            path::get(value, "spec.updateStrategy").clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        ));
    }
    errors.extend(workload::selector_and_template(value, "statefulset"));
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let rest = |value: &Value| {
        let mut spec = value["spec"].clone();
        let free = [
            "replicas",
            "ordinals",
            "template",
            "updateStrategy",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
        ];
        path::object(&mut spec).retain(|key, _| !free.contains(&key.as_str()));
        for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
            path::object(claim).shift_remove("status");
        }
        spec
    };
    if path::same(&rest(new), &rest(old)) {
        return Vec::new();
    }
    let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
        'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    vec![FieldError::forbidden("spec", detail)]
}
