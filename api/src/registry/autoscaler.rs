//! HorizontalPodAutoscaler: at least one, and CPU at 80 % if nothing else is asked.

use serde_json::{Value, json};

use super::fill;
use crate::{path, schema::Row, status::FieldError};

pub(super) fn default(row: &Row, value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "minReplicas", 1);
    if row.version == "v1" {
        fill::set(spec, "targetCPUUtilizationPercentage", 80);
        return;
    }
    if spec.get("metrics").is_none_or(path::is_zero) {
        let target = json!({ "type": "Utilization", "averageUtilization": 80 });
        spec.insert(
            "metrics".to_owned(),
            json!([{ "type": "Resource", "resource": { "name": "cpu", "target": target } }]),
        );
    }
    let Some(behavior) = fill::child(spec, "behavior") else { return };
    if let Some(up) = fill::child(behavior, "scaleUp") {
        fill::set(up, "stabilizationWindowSeconds", 0);
        fill::set(up, "selectPolicy", "Max");
        let policies = json!([{ "type": "Pods", "value": 4, "periodSeconds": 15 }, { "type": "Percent", "value": 100, "periodSeconds": 15 }]);
        fill::set(up, "policies", policies);
    }
    if let Some(down) = fill::child(behavior, "scaleDown") {
        fill::set(down, "selectPolicy", "Max");
        fill::set(down, "policies", json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]));
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let (min, max) = (path::int(spec, "minReplicas").unwrap_or(1), path::int(spec, "maxReplicas").unwrap_or(0));
    let mut errors = Vec::new();
    if min < 1 {
        errors.push(FieldError::invalid("spec.minReplicas", min, "must be greater than or equal to 1"));
    }
    if max < 1 {
        errors.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than 0"));
    } else if max < min {
        errors.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than or equal to `minReplicas`"));
    }
    for key in ["kind", "name"] {
        if path::str(path::get(spec, "scaleTargetRef"), key).is_empty() {
            errors.push(FieldError::required(format!("spec.scaleTargetRef.{key}"), ""));
        }
    }
    errors
}
