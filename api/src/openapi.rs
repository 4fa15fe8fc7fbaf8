//! OpenAPI v3: an index, and a document per group and version, made from the tables.

use std::sync::Arc;

use serde_json::{Value, json};

/// `/openapi/v3`: the paths of the documents, each with its hash.
pub fn index() -> Value {
    json!({"paths": {}})
}

/// `/openapi/v3/<path>`, path as `api/v1` or `apis/apps/v1`: JSON bytes, made once.
pub fn document(path: &str) -> Option<Arc<[u8]>> {
    let _ = path;
    None
}

/// The hash of a document, as the index has it: also its ETag.
pub fn hash(path: &str) -> Option<String> {
    let _ = path;
    None
}
