//! Job and CronJob: how often, how many, and a selector that the server makes.

use serde_json::{Value, json};

use super::{fill, pod_template, workload};
use crate::{path, status::FieldError};

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

pub(super) fn default(value: &mut Value) {
    let labels = path::get(value, "spec.template.metadata.labels").clone();
    let spec = path::entry(value, "spec");
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        fill::set(spec, "completions", 1);
    }
    fill::set(spec, "parallelism", 1);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    fill::set(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill::set(spec, "completionMode", "NonIndexed");
    fill::set(spec, "suspend", false);
    fill::set(spec, "manualSelector", false);
    let replacement = if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    fill::set(spec, "podReplacementPolicy", replacement);
    if labels.as_object().is_some_and(|l| !l.is_empty()) && path::is_zero(path::get(value, "metadata.labels")) {
        path::entry(value, "metadata").insert("labels".to_owned(), labels);
    }
    pod_template::default(value, "spec.template");
}

pub(super) fn default_cron(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "concurrencyPolicy", "Allow");
    fill::set(spec, "suspend", false);
    fill::set(spec, "successfulJobsHistoryLimit", 3);
    fill::set(spec, "failedJobsHistoryLimit", 1);
    pod_template::default(value, "spec.jobTemplate.spec.template");
}

/// A job selects its pods by its own uid, unless told otherwise.
pub(super) fn prepare_create(value: &mut Value) {
    if path::bool(value, "spec.manualSelector") {
        return;
    }
    let (uid, name) = (path::str(value, "metadata.uid").to_owned(), path::str(value, "metadata.name").to_owned());
    if uid.is_empty() {
        return;
    }
    let labels = path::entry(value, "spec.template.metadata.labels");
    for (key, text) in
        [("controller-uid", &uid), ("job-name", &name), (UID_LABEL, &uid), ("batch.kubernetes.io/job-name", &name)]
    {
        labels.insert(key.to_owned(), json!(text));
    }
    path::entry(value, "spec.selector.matchLabels").insert(UID_LABEL.to_owned(), json!(uid));
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = workload::non_negative(
        value,
        "spec",
        &["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"],
    );
    errors.extend(pod_template::validate(value, "spec.template", Some(&["OnFailure", "Never"])));
    let selector = path::get(value, "spec.selector");
    if selector.is_null() && !path::str(value, "metadata.uid").is_empty() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    errors.extend(workload::selector(selector, "spec.selector"));
    match path::str(value, "spec.completionMode") {
        "Indexed" if path::get(value, "spec.completions").is_null() => {
            errors.push(FieldError::required("spec.completions", "when completion mode is Indexed"));
        }
        "Indexed" | "NonIndexed" => {}
        other => errors.push(FieldError::not_supported("spec.completionMode", other, &["Indexed", "NonIndexed"])),
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        ["spec.selector", "spec.completionMode"].iter().filter_map(|at| workload::immutable(new, old, at)).collect();
    let suspended = path::bool(old, "spec.suspend") && path::get(old, "status.startTime").is_null();
    if !suspended {
        errors.extend(workload::immutable(new, old, "spec.template"));
    }
    if path::str(new, "spec.completionMode") != "Indexed" {
        errors.extend(workload::immutable(new, old, "spec.completions"));
    }
    errors
}

pub(super) fn validate_cron(value: &Value) -> Vec<FieldError> {
    let mut errors = workload::non_negative(
        value,
        "spec",
        &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
    );
    let schedule = path::str(value, "spec.schedule");
    let fields = schedule.split_whitespace().count();
    if schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else if fields != 5 && !schedule.starts_with('@') {
        let detail = format!(
            "expected exactly 5 fields, found {fields}: [{}]",
            schedule.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        errors.push(FieldError::invalid("spec.schedule", schedule, detail));
    }
    let policy = path::str(value, "spec.concurrencyPolicy");
    if !matches!(policy, "Allow" | "Forbid" | "Replace") {
        errors.push(FieldError::not_supported("spec.concurrencyPolicy", policy, &["Allow", "Forbid", "Replace"]));
    }
    let name = path::str(value, "metadata.name");
    if name.len() > 52 {
        errors.push(FieldError::invalid("metadata.name", name, "must be no more than 52 characters"));
    }
    errors.extend(pod_template::validate(value, "spec.jobTemplate.spec.template", Some(&["OnFailure", "Never"])));
    errors
}
