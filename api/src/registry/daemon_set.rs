//! DaemonSet: one pod at a time is replaced.

use serde_json::{Value, json};

use super::{fill, pod_template, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let spec = path::entry(value, "spec");
    let strategy = path::object(spec.entry("updateStrategy").or_insert(json!({})));
    fill::set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = path::object(strategy.entry("rollingUpdate").or_insert(json!({})));
        fill::set(rolling, "maxUnavailable", 1);
        fill::set(rolling, "maxSurge", 0);
    }
    fill::set(spec, "revisionHistoryLimit", 10);
    pod_template::default(value, "spec.template");
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = workload::non_negative(value, "spec", &["minReadySeconds", "revisionHistoryLimit"]);
    errors.extend(workload::selector_and_template(value, "daemonset"));
    let strategy = path::str(value, "spec.updateStrategy.type");
    if !matches!(strategy, "RollingUpdate" | "OnDelete") {
        errors.push(FieldError::not_supported("spec.updateStrategy.type", strategy, &["OnDelete", "RollingUpdate"]));
    }
    errors
}
