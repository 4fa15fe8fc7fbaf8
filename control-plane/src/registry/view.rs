//! The form in which a reader wants objects: as they are, as rows of a Table, or their metadata only.
//!
//! From stored bytes to the body of a reply; objects as they are need no parsing.
use api::print::IncludeObject;
use api::schema::Row;
use serde_json::{Value, json};

use super::read::Page;
use crate::serve;
use crate::storage::cache::Entry;

/// What the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The objects.
    Object,
    /// `Table` of `meta.k8s.io/<version>`.
    Table {
        /// `v1` or `v1beta1`.
        version: &'static str,
        /// What of the objects goes with the rows.
        include: IncludeObject,
    },
    /// `PartialObjectMetadata`.
    Metadata {
        /// `v1` or `v1beta1`.
        version: &'static str,
    },
}

/// Stored bytes in the version of `row`, parsed.
pub fn value(row: &Row, stored: &[u8], revision: u64) -> Value {
    let mut value = api::convert::from_storage(row, serve::parse(stored, revision));
    if row.storage != (row.group, row.version) {
        super::create::set_type(row, &mut value);
    }
    value
}

/// One object, as the body of a reply. Without a revision it was not stored.
pub fn object(view: View, row: &Row, stored: &[u8], revision: Option<u64>) -> Vec<u8> {
    match (view, revision) {
        (View::Object, Some(revision)) if row.storage == (row.group, row.version) => serve::object(stored, revision),
        _ => {
            let mut value = value(row, stored, revision.unwrap_or(0));
            if revision.is_none()
                && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
            {
                metadata.shift_remove("resourceVersion");
            }
            to_bytes(&shape(view, row, value, true))
        }
    }
}

/// A list, as the body of a reply.
pub fn list(view: View, row: &Row, page: &Page) -> Vec<u8> {
    match view {
        View::Object => objects(row, page),
        View::Table { version, include } => {
            let values = values(row, page);
            let values: Vec<&Value> = values.iter().collect();
            let mut table = api::print::table(row, &values, include, page.meta(), jiff::Timestamp::now(), true);
            table["apiVersion"] = json!(format!("meta.k8s.io/{version}"));
            to_bytes(&table)
        }
        View::Metadata { version } => {
            let items: Vec<Value> = values(row, page).into_iter().map(|value| partial(value, version)).collect();
            let api_version = format!("meta.k8s.io/{version}");
            to_bytes(
                &json!({"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": page.meta(), "items": items}),
            )
        }
    }
}

/// One object in a form, as a value: what a watch sends. `headers` only matters to tables.
pub fn shape(view: View, row: &Row, value: Value, headers: bool) -> Value {
    match view {
        View::Object => value,
        View::Table { version, include } => {
            let meta = json!({"resourceVersion": api::path::str(&value, "metadata.resourceVersion")});
            let mut table = api::print::table(row, &[&value], include, meta, jiff::Timestamp::now(), headers);
            table["apiVersion"] = json!(format!("meta.k8s.io/{version}"));
            table
        }
        View::Metadata { version } => partial(value, version),
    }
}

fn partial(mut value: Value, version: &str) -> Value {
    let metadata = value.get_mut("metadata").map(Value::take).unwrap_or_default();
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
}

fn values(row: &Row, page: &Page) -> Vec<Value> {
    page.items.iter().map(|item| value(row, &item.entry.value, item.entry.revision)).collect()
}

fn objects(row: &Row, page: &Page) -> Vec<u8> {
    let size: usize = page.items.iter().map(|item| item.entry.value.len() + 16).sum();
    let mut out = Vec::with_capacity(size + 256);
    let head = json!({"kind": row.list_kind(), "apiVersion": row.api_version(), "metadata": page.meta()});
    out.extend_from_slice(head.to_string().trim_end_matches('}').as_bytes());
    // Two braces were trimmed: the metadata's own goes back.
    out.extend_from_slice(b"},\"items\":[");
    for (index, item) in page.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        append(row, &item.entry, &mut out);
    }
    out.extend_from_slice(b"]}\n");
    out
}

fn append(row: &Row, entry: &Entry, out: &mut Vec<u8>) {
    if row.storage == (row.group, row.version) {
        serve::item(&entry.value, entry.revision, out);
    } else {
        let mut value = value(row, &entry.value, entry.revision);
        if let Some(object) = value.as_object_mut() {
            object.shift_remove("apiVersion");
            object.shift_remove("kind");
        }
        out.extend_from_slice(value.to_string().as_bytes());
    }
}

fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a Value is JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::schema::row;
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::super::read::Item;
    use super::{Entry, Page, View, list};

    #[test]
    fn a_list_is_valid_json() {
        let row = row("", "v1", "configmaps").expect("a resource");
        let value = Bytes::from_static(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#);
        let item = || Item { path: "n/a".into(), entry: Arc::new(Entry { revision: 3, value: value.clone() }) };
        let page =
            Page { items: vec![item(), item()], revision: 9, continue_token: Some("c".into()), remaining: Some(1) };
        let parsed: Value = serde_json::from_slice(&list(View::Object, row, &page)).expect("JSON");
        let item = json!({"metadata": {"resourceVersion": "3", "name": "a"}});
        let meta = json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 1});
        assert_eq!(
            parsed,
            json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": meta, "items": [item, item]})
        );
        let parsed: Value = serde_json::from_slice(&list(View::Metadata { version: "v1" }, row, &page)).expect("JSON");
        assert_eq!(parsed["items"][0]["kind"], "PartialObjectMetadata");
    }
}
