//! HorizontalPodAutoscalers: what is measured against what is wanted.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, cell};
use crate::path;

/// How many metrics fit into a cell.
const MAX: usize = 2;

pub(super) fn view(version: &str) -> Option<View> {
    let columns = "Name|Reference|Targets|MinPods|MaxPods:integer|Replicas:integer|Age";
    Some(View { columns, cells: if version == "v1" { cells_v1 } else { cells } })
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let current = path::list(object, "status.currentMetrics");
    let metrics = path::list(object, "spec.metrics").iter().enumerate();
    let metrics: Vec<String> = metrics.map(|(i, spec)| metric(spec, current.get(i).unwrap_or(&Value::Null))).collect();
    let targets = match metrics.len() {
        0 => cell::NONE.to_owned(),
        n if n > MAX => format!("{} + {} more...", metrics[..MAX].join(", "), n - MAX),
        _ => metrics.join(", "),
    };
    row(object, &targets, now)
}

fn cells_v1(object: &Value, now: Timestamp) -> Vec<Value> {
    let percent = |at: &str| path::int(object, at).map_or("<unknown>".to_owned(), |p| format!("{p}%"));
    let targets = format!(
        "cpu: {}/{}",
        percent("status.currentCPUUtilizationPercentage"),
        percent("spec.targetCPUUtilizationPercentage")
    );
    row(object, &targets, now)
}

fn row(object: &Value, targets: &str, now: Timestamp) -> Vec<Value> {
    let target = path::get(object, "spec.scaleTargetRef");
    let min = path::int(object, "spec.minReplicas").map_or(cell::UNSET.to_owned(), |n| n.to_string());
    vec![
        cell::name(object),
        json!(format!("{}/{}", path::str(target, "kind"), path::str(target, "name"))),
        json!(targets),
        json!(min),
        cell::number(object, "spec.maxReplicas"),
        cell::number(object, "status.currentReplicas"),
        cell::age(object, now),
    ]
}

/// One metric: what is, and what should be.
fn metric(spec: &Value, status: &Value) -> String {
    let (field, prefix) = match path::str(spec, "type") {
        "Resource" => ("resource", format!("{}: ", path::str(spec, "resource.name"))),
        "ContainerResource" => ("containerResource", format!("{}: ", path::str(spec, "containerResource.name"))),
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "External" => ("external", String::new()),
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) =
        (path::get(path::get(spec, field), "target"), path::get(path::get(status, field), "current"));
    let unknown = "<unknown>";
    if let Some(percent) = path::int(target, "averageUtilization") {
        let now = path::int(current, "averageUtilization").map_or(unknown.to_owned(), |p| format!("{p}%"));
        return format!("{prefix}{now}/{percent}%");
    }
    let average = path::str(target, "averageValue");
    if average.is_empty() {
        return format!("{prefix}{}/{}", cell::text(current, "value", unknown), path::str(target, "value"));
    }
    let suffix = if matches!(field, "object" | "external") { " (avg)" } else { "" };
    format!("{prefix}{}/{average}{suffix}", cell::text(current, "averageValue", unknown))
}
