//! Between the forms that one stored object is served in: Event (core ↔ events.k8s.io), HorizontalPodAutoscaler (v1 ↔ v2).
//!
//! All other kinds are stored as they are served. Conversion is by fields, so it is its own inverse.

use serde_json::{Value, json};

use crate::{Object, path, schema::Row};

/// An object of `row`'s version in the storage version.
pub fn to_storage(row: &Row, value: Value) -> Value {
    match (row.group, row.version, row.resource) {
        ("events.k8s.io", _, "events") => rename(value, "v1", |(core, events)| (events, core)),
        ("autoscaling", "v1", _) => scaler_to_v2(value),
        _ => value,
    }
}

/// A stored object in `row`'s version.
pub fn from_storage(row: &Row, value: Value) -> Value {
    match (row.group, row.version, row.resource) {
        ("events.k8s.io", _, "events") => rename(value, "events.k8s.io/v1", |names| names),
        ("autoscaling", "v1", _) => scaler_to_v1(value),
        _ => value,
    }
}

/// Fields of an Event: in the core group, in events.k8s.io.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(
    value: Value,
    api_version: &str,
    order: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    let Value::Object(map) = value else { return value };
    let new_name = |key: String| {
        let found = EVENT_FIELDS.iter().map(|names| order(*names)).find(|(from, _)| *from == key);
        found.map_or(key, |(_, to)| to.to_owned())
    };
    let mut out: Object = map.into_iter().map(|(key, value)| (new_name(key), value)).collect();
    out.insert("apiVersion".to_owned(), json!(api_version));
    Value::Object(out)
}

/// Where v1 keeps the metrics that it has no field for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn scaler_to_v2(mut value: Value) -> Value {
    value["apiVersion"] = json!("autoscaling/v2");
    let mut metrics = Vec::new();
    if let Some(percent) = remove(&mut value, "spec", "targetCPUUtilizationPercentage") {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        metrics.push(json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } }));
    }
    for (annotation, field) in [(METRICS, "metrics"), (BEHAVIOR, "behavior")] {
        let kept = path::map(&value, "metadata.annotations").and_then(|a| a.get(annotation)).and_then(Value::as_str);
        let Some(kept) = kept.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { continue };
        match kept {
            Value::Array(list) if field == "metrics" => metrics.extend(list),
            other => value["spec"][field] = other,
        }
        path::entry(&mut value, "metadata.annotations").shift_remove(annotation);
    }
    if !metrics.is_empty() {
        value["spec"]["metrics"] = json!(metrics);
    }
    if let Some(percent) = remove(&mut value, "status", "currentCPUUtilizationPercentage") {
        let current = json!({ "averageUtilization": percent });
        value["status"]["currentMetrics"] =
            json!([{ "type": "Resource", "resource": { "name": "cpu", "current": current } }]);
    }
    value
}

fn scaler_to_v1(mut value: Value) -> Value {
    value["apiVersion"] = json!("autoscaling/v1");
    let is_cpu = |m: &Value| path::str(m, "type") == "Resource" && path::str(m, "resource.name") == "cpu";
    if let Some(Value::Array(metrics)) = remove(&mut value, "spec", "metrics") {
        let simple = |m: &Value| is_cpu(m) && path::str(m, "resource.target.type") == "Utilization";
        let (cpu, others): (Vec<Value>, Vec<Value>) = metrics.into_iter().partition(simple);
        if let Some(percent) = cpu.first().map(|m| path::get(m, "resource.target.averageUtilization")) {
            value["spec"]["targetCPUUtilizationPercentage"] = percent.clone();
        }
        if !others.is_empty() {
            path::entry(&mut value, "metadata.annotations")
                .insert(METRICS.to_owned(), json!(json!(others).to_string()));
        }
    }
    if let Some(behavior) = remove(&mut value, "spec", "behavior") {
        path::entry(&mut value, "metadata.annotations").insert(BEHAVIOR.to_owned(), json!(behavior.to_string()));
    }
    if let Some(Value::Array(metrics)) = remove(&mut value, "status", "currentMetrics")
        && let Some(cpu) = metrics.iter().find(|m| is_cpu(m))
    {
        value["status"]["currentCPUUtilizationPercentage"] =
            path::get(cpu, "resource.current.averageUtilization").clone();
    }
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
        status.shift_remove("conditions");
    }
    value
}

fn remove(value: &mut Value, part: &str, field: &str) -> Option<Value> {
    value.get_mut(part)?.as_object_mut()?.shift_remove(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::row;

    #[test]
    fn events_are_renamed_both_ways() {
        let events = row("events.k8s.io", "v1", "events").unwrap();
        let stored = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2, "reason": "r"});
        let served = from_storage(events, stored.clone());
        let expected = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "a"}, "note": "m", "deprecatedCount": 2, "reason": "r"});
        assert_eq!(served, expected);
        assert_eq!(to_storage(events, served), stored);
    }

    #[test]
    fn scalers_keep_their_metrics() {
        let v1 = row("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let old = json!({"apiVersion": "autoscaling/v1", "metadata": {}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let stored = to_storage(v1, old.clone());
        assert_eq!(stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!(from_storage(v1, stored), old);
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue"}}});
        let stored =
            json!({"apiVersion": "autoscaling/v2", "metadata": {"annotations": {}}, "spec": {"metrics": [memory]}});
        assert_eq!(to_storage(v1, from_storage(v1, stored.clone())), stored);
    }
}
