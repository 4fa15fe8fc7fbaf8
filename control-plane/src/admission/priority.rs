//! Priority: a pod's class becomes its number; there is one default class at most.
use api::path;
use api::status::Status;
use serde_json::Value;

use crate::registry::Target;
use crate::serve;
use crate::storage::cache::Cache;

const TABLE: &str = "priorityclasses";

pub(super) fn admit(cache: &Cache, target: &Target<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = path::str(pod, "spec.priorityClassName").to_owned();
    let class = if name.is_empty() {
        default_class(cache)
    } else {
        let Some(entry) = cache.get(TABLE, &name) else {
            let text = format!("no PriorityClass with name {name} was found");
            return Err(Status::forbidden(target.row, target.name, text));
        };
        Some(serve::parse(&entry.value, entry.revision))
    };
    let (name, value, policy) = match &class {
        Some(class) => (
            path::str(class, "metadata.name"),
            path::int(class, "value").unwrap_or(0),
            path::str(class, "preemptionPolicy"),
        ),
        None => ("", 0, ""),
    };
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    if path::int(pod, "spec.priority").is_some_and(|given| given != value) {
        let given = path::int(pod, "spec.priority").unwrap_or(0);
        let text = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(Status::forbidden(target.row, target.name, text));
    }
    let spec = path::entry(pod, "spec");
    if !name.is_empty() {
        spec.insert("priorityClassName".to_owned(), name.into());
    }
    spec.insert("priority".to_owned(), value.into());
    spec.entry("preemptionPolicy").or_insert_with(|| policy.into());
    Ok(())
}

/// The default class with the lowest value, as upstream, should there be several.
fn default_class(cache: &Cache) -> Option<Value> {
    let classes = cache.snapshot(TABLE).objects;
    classes
        .values()
        .filter(|entry| memchr_contains(&entry.value, b"\"globalDefault\":true"))
        .map(|entry| serve::parse(&entry.value, entry.revision))
        .filter(|class| path::bool(class, "globalDefault"))
        .min_by_key(|class| path::int(class, "value").unwrap_or(0))
}

/// Saves parsing every class for every pod.
fn memchr_contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

pub(super) fn check_class(cache: &Cache, target: &Target<'_>, class: &Value) -> Result<(), Status> {
    if !path::bool(class, "globalDefault") {
        return Ok(());
    }
    let name = path::str(class, "metadata.name");
    match default_class(cache) {
        Some(other) if path::str(&other, "metadata.name") != name => {
            let other = path::str(&other, "metadata.name");
            let text = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(Status::forbidden(target.row, name, text))
        }
        _ => Ok(()),
    }
}
