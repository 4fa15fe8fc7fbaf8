//! What a write may change, for all kinds: status and the rest apart, and the generation.

use serde_json::{Value, json};

use super::Ctx;
use crate::{path, schema::Row};

/// Readies a new object.
pub(super) fn create(ctx: &Ctx<'_>, value: &mut Value) {
    let keeps_status = ctx.row.kind == "Node"; // The node's agent registers with its status.
    if ctx.row.has_status() && !keeps_status {
        path::object(value).shift_remove("status");
    }
    let metadata = path::entry(value, "metadata");
    if counts_generations(ctx.row) {
        metadata.insert("generation".to_owned(), json!(1));
    } else {
        metadata.shift_remove("generation");
    }
}

/// Readies an update.
pub(super) fn update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    if ctx.part() == "status" {
        keep_all_but_status(ctx.row, new, old);
    } else if ctx.row.has_status() && !matches!(ctx.part(), "binding" | "resize" | "approval" | "finalize") {
        keep(new, old, "status");
    }
    let before = path::int(old, "metadata.generation").unwrap_or(0);
    let changed = ctx.part() != "status" && counts_generations(ctx.row) && is_changed(ctx.row, new, old);
    let metadata = path::entry(new, "metadata");
    match before + i64::from(changed) {
        0 => drop(metadata.shift_remove("generation")),
        generation => drop(metadata.insert("generation".to_owned(), json!(generation))),
    }
}

/// A status write may also change labels and annotations, but of a Deployment.
fn keep_all_but_status(row: &Row, new: &mut Value, old: &Value) {
    let (Some(new_map), Some(old_map)) = (new.as_object_mut(), old.as_object()) else { return };
    let own = |key: &str| matches!(key, "apiVersion" | "kind" | "metadata" | "status");
    new_map.retain(|key, _| own(key));
    for (key, value) in old_map.iter().filter(|(key, _)| !own(key)) {
        new_map.insert(key.clone(), value.clone());
    }
    let fixed: &[&str] = if row.kind == "Deployment" { &["labels", "ownerReferences"] } else { &["ownerReferences"] };
    let before = path::get(old, "metadata");
    for key in fixed {
        keep(&mut new["metadata"], before, key);
    }
}

/// Sets a field as the old object has it.
pub(super) fn keep(new: &mut Value, old: &Value, key: &str) {
    let map = path::object(new);
    match old.get(key) {
        Some(value) => drop(map.insert(key.to_owned(), value.clone())),
        None => drop(map.shift_remove(key)),
    }
}

/// Kinds whose generation the server counts.
fn counts_generations(row: &Row) -> bool {
    match row.group {
        "" => matches!(row.kind, "Pod" | "ReplicationController" | "PodTemplate"),
        "apps" => row.kind != "ControllerRevision",
        "batch"
        | "policy"
        | "admissionregistration.k8s.io"
        | "apiextensions.k8s.io"
        | "discovery.k8s.io"
        | "flowcontrol.apiserver.k8s.io" => true,
        "networking.k8s.io" => matches!(row.kind, "NetworkPolicy" | "Ingress" | "IngressClass"),
        "scheduling.k8s.io" => row.kind == "PriorityClass",
        "storage.k8s.io" => row.kind == "CSIDriver",
        "resource.k8s.io" => row.kind == "ResourceSlice",
        _ => row.type_name().is_empty(), // Custom resources.
    }
}

/// Whether what the generation counts is changed: everything but metadata and status; the metadata's own deletion too.
fn is_changed(row: &Row, new: &Value, old: &Value) -> bool {
    let counted = |key: &str| !matches!(key, "apiVersion" | "kind" | "metadata" | "status");
    let (Some(a), Some(b)) = (new.as_object(), old.as_object()) else { return false };
    let differs = |key: &String| !path::same(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
    if a.keys().chain(b.keys()).any(|key| counted(key) && differs(key)) {
        return true;
    }
    match row.kind {
        "Deployment" => !path::same(path::get(new, "metadata.annotations"), path::get(old, "metadata.annotations")),
        "EndpointSlice" => !path::same(path::get(new, "metadata.labels"), path::get(old, "metadata.labels")),
        _ => false,
    }
}
