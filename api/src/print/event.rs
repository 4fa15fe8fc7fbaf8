//! Events, in both of their forms.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, age};
use crate::path;

pub(super) const VIEW: View =
    View { columns: "Last Seen|Type|Reason|Object|*Subobject|*Source|Message|*First Seen|*Count|*Name", cells };

/// The text at the first of two paths that has one: the core form's, and that of events.k8s.io.
fn either<'a>(event: &'a Value, core: &str, events: &str) -> &'a str {
    match path::str(event, core) {
        "" => path::str(event, events),
        text => text,
    }
}

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let seen = |core: &str, events: &str| either(event, core, events);
    let first = match seen("firstTimestamp", "deprecatedFirstTimestamp") {
        "" => age::since(path::str(event, "eventTime"), now),
        time => age::since(time, now),
    };
    let mut last = match seen("lastTimestamp", "deprecatedLastTimestamp") {
        "" => first.clone(),
        time => age::since(time, now),
    };
    let mut count = path::int(event, "count").or(path::int(event, "deprecatedCount")).unwrap_or(0);
    if let Some(series) = event.get("series") {
        last = age::since(path::str(series, "lastObservedTime"), now);
        count = path::int(series, "count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let about = if event.get("involvedObject").is_some() { "involvedObject" } else { "regarding" };
    let about = path::get(event, about);
    let (kind, name) = (path::str(about, "kind").to_lowercase(), path::str(about, "name"));
    vec![
        json!(last),
        json!(path::str(event, "type")),
        json!(path::str(event, "reason")),
        json!(if name.is_empty() { kind } else { format!("{kind}/{name}") }),
        json!(path::str(about, "fieldPath")),
        json!(source(event)),
        json!(either(event, "message", "note").trim()),
        json!(first),
        json!(count),
        json!(path::str(event, "metadata.name")),
    ]
}

fn source(event: &Value) -> String {
    let source = if event.get("source").is_some() { "source" } else { "deprecatedSource" };
    let source = path::get(event, source);
    let component = match path::str(source, "component") {
        "" => either(event, "reportingComponent", "reportingController"),
        component => component,
    };
    let host = match path::str(source, "host") {
        "" => path::str(event, "reportingInstance"),
        host => host,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
