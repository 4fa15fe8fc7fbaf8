//! Deployment: rolling update by a quarter, ten revisions, ten minutes.

use serde_json::{Value, json};

use super::{fill, pod_template, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "replicas", 1);
    let strategy = path::object(spec.entry("strategy").or_insert(json!({})));
    fill::set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = path::object(strategy.entry("rollingUpdate").or_insert(json!({})));
        fill::set(rolling, "maxUnavailable", "25%");
        fill::set(rolling, "maxSurge", "25%");
    }
    fill::set(spec, "revisionHistoryLimit", 10);
    fill::set(spec, "progressDeadlineSeconds", 600);
    pod_template::default(value, "spec.template");
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = workload::non_negative(
        value,
        "spec",
        &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
    );
    errors.extend(workload::selector_and_template(value, "deployment"));
    errors.extend(strategy(path::get(value, "spec.strategy")));
    let (deadline, ready) =
        (path::int(value, "spec.progressDeadlineSeconds"), path::int(value, "spec.minReadySeconds").unwrap_or(0));
    if let Some(deadline) = deadline.filter(|d| *d <= ready) {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
    errors
}

fn strategy(strategy: &Value) -> Vec<FieldError> {
    const AT: &str = "spec.strategy";
    let rolling = path::get(strategy, "rollingUpdate");
    match path::str(strategy, "type") {
        "Recreate" if !rolling.is_null() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![FieldError::forbidden(format!("{AT}.rollingUpdate"), detail)]
        }
        "Recreate" => Vec::new(),
        "RollingUpdate" => {
            let at = format!("{AT}.rollingUpdate");
            let mut errors =
                workload::count_or_percent(path::get(rolling, "maxUnavailable"), &format!("{at}.maxUnavailable"));
            errors.extend(workload::count_or_percent(path::get(rolling, "maxSurge"), &format!("{at}.maxSurge")));
            let zero = |key: &str| matches!(path::get(rolling, key), v if v == &json!(0) || v == &json!("0%"));
            if zero("maxUnavailable") && zero("maxSurge") {
                let value = path::get(rolling, "maxUnavailable").clone();
                errors.push(FieldError::invalid(
                    format!("{at}.maxUnavailable"),
                    value,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
            errors
        }
        other => vec![FieldError::not_supported(format!("{AT}.type"), other, &["Recreate", "RollingUpdate"])],
    }
}
