//! `meta.k8s.io/v1 Table`: the columns that kubectl prints, and the cells of each object.
//!
//! Columns and cells are upstream's, wide ones included with priority 1. Kinds without a view of their own show name and
//! creation time, custom resources name and age, as upstream's two default converters do.

mod admission;
mod age;
mod autoscaler;
mod cell;
mod class;
mod config;
mod event;
mod job;
mod network;
mod node;
mod pod;
mod rbac;
mod storage;
mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{path, schema::Row};

pub use age::human_duration;

/// How much of each object goes with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// A PartialObjectMetadata.
    #[default]
    Metadata,
    /// The object.
    Object,
}

/// The table of some objects of one row; `list_meta` becomes its metadata. Columns are left out without `with_headers`
/// (the later events of a watch).
#[expect(clippy::needless_pass_by_value, reason = "the seam of the server: it makes the metadata for this call")]
pub fn table(
    row: &Row,
    objects: &[&Value],
    include: IncludeObject,
    list_meta: Value,
    now: Timestamp,
    with_headers: bool,
) -> Value {
    let view = view(row);
    let columns: Vec<Value> = if with_headers { view.columns.split('|').map(column).collect() } else { Vec::new() };
    let rows: Vec<Value> = objects.iter().map(|object| table_row(&view, object, include, now)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": columns, "rows": rows,
    })
}

/// How an object fills its row, at a time.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// The columns of a kind, and how an object fills them.
#[derive(Clone, Copy)]
struct View {
    /// Names between bars; `*` before one that only `-o wide` shows, `:type` after one that is no string.
    columns: &'static str,
    cells: Cells,
}

fn column(text: &str) -> Value {
    let (name, kind) = text.split_once(':').unwrap_or((text, "string"));
    let (name, priority) = name.strip_prefix('*').map_or((name, 0), |name| (name, 1));
    let format = if name == "Name" { "name" } else { "" };
    json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
}

fn view(row: &Row) -> View {
    let found = match row.group {
        "" => core_view(row.kind),
        "apps" => workload::view(row.kind),
        "batch" => job::view(row.kind),
        "autoscaling" => autoscaler::view(row.version),
        "policy" => class::budget_view(row.kind),
        "networking.k8s.io" | "discovery.k8s.io" => network::view(row.kind),
        "rbac.authorization.k8s.io" => rbac::view(row.kind),
        "storage.k8s.io" => storage::view(row.kind),
        "events.k8s.io" => Some(event::VIEW),
        "admissionregistration.k8s.io" => admission::view(row.kind),
        _ => class::view(row.kind),
    };
    found.unwrap_or(if row.type_name().is_empty() { CUSTOM } else { DEFAULT })
}

fn core_view(kind: &str) -> Option<View> {
    match kind {
        "Pod" => Some(pod::VIEW),
        "Node" => Some(node::VIEW),
        "Event" => Some(event::VIEW),
        "Service" | "Endpoints" => network::view(kind),
        "PersistentVolume" | "PersistentVolumeClaim" => storage::view(kind),
        "ReplicationController" | "PodTemplate" => workload::view(kind),
        _ => config::view(kind),
    }
}

/// What upstream shows of kinds that have no view.
const DEFAULT: View = View {
    columns: "Name|Created At:date",
    cells: |object, _| vec![cell::name(object), json!(path::str(object, "metadata.creationTimestamp"))],
};

/// What upstream shows of custom resources.
const CUSTOM: View =
    View { columns: "Name|Age", cells: |object, now| vec![cell::name(object), cell::age(object, now)] };

fn table_row(view: &View, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let shown = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => object.clone(),
        IncludeObject::Metadata => {
            let metadata = object.get("metadata").cloned().unwrap_or(Value::Null);
            json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
        }
    };
    let mut row = json!({ "cells": (view.cells)(object, now) });
    if std::ptr::fn_addr_eq(view.cells, pod::VIEW.cells)
        && let Some(conditions) = pod::row_conditions(object)
    {
        row["conditions"] = conditions;
    }
    row["object"] = shown;
    row
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests;
