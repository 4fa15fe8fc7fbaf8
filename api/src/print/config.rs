//! Namespaces, ConfigMaps, Secrets, ServiceAccounts, quotas.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, cell};
use crate::path;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "Namespace" => ("Name|Status|Age", |object, now| {
            vec![cell::name(object), json!(path::str(object, "status.phase")), cell::age(object, now)]
        }),
        "ConfigMap" => ("Name|Data:integer|Age", |object, now| {
            let count = cell::count(object, "data") + cell::count(object, "binaryData");
            vec![cell::name(object), json!(count), cell::age(object, now)]
        }),
        "Secret" => ("Name|Type|Data:integer|Age", |object, now| {
            vec![
                cell::name(object),
                json!(path::str(object, "type")),
                json!(cell::count(object, "data")),
                cell::age(object, now),
            ]
        }),
        "ServiceAccount" => ("Name|Secrets:integer|Age", |object, now| {
            vec![cell::name(object), json!(path::list(object, "secrets").len()), cell::age(object, now)]
        }),
        "ResourceQuota" => ("Name|Request|Limit|Age", quota),
        "ComponentStatus" => ("Name|Status|Message|Error", component),
        _ => return None,
    };
    Some(View { columns, cells })
}

fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut names: Vec<&String> =
        path::map(object, "status.hard").into_iter().flatten().map(|(name, _)| name).collect();
    names.sort();
    let entry = |name: &&String| {
        let of = |at: &str| cell::plain(path::get(object, at).get(name.as_str()).unwrap_or(&json!("0")));
        format!("{name}: {}/{}", of("status.used"), of("status.hard"))
    };
    let (limits, requests): (Vec<&String>, Vec<&String>) =
        names.into_iter().partition(|name| name.starts_with("limits."));
    let join = |names: Vec<&String>| json!(names.iter().map(entry).collect::<Vec<_>>().join(", "));
    vec![cell::name(object), join(requests), join(limits), cell::age(object, now)]
}

fn component(object: &Value, _: Timestamp) -> Vec<Value> {
    let healthy = path::list(object, "conditions").iter().find(|c| path::str(c, "type") == "Healthy");
    let status = match healthy.map(|c| path::str(c, "status")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let of = |key: &str| json!(healthy.map_or("", |c| path::str(c, key)));
    vec![cell::name(object), json!(status), of("message"), of("error")]
}
