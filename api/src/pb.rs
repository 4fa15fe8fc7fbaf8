//! `application/vnd.kubernetes.protobuf` ↔ JSON, by the tables alone: no generated structs.
//!
//! The bytes are `k8s\0` and a `runtime.Unknown` that names kind and version and holds the message. The tables
//! (`schema/protobuf-fields.tsv`, and the type table for what is inlined in JSON) say the rest; wrapper types with a JSON form
//! of their own are in [`special`]. Values are not checked here: `decode` does, as for JSON.

mod read;
mod special;
mod table;
mod wire;
mod write;

use serde_json::{Value, json};

use crate::{path, schema, status::Status};

/// What every object starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are no object, or an object cannot be bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not start as an object does.
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Magic,
    /// The message ends too early, or a varint is too long.
    #[error("unexpected EOF")]
    Truncated,
    /// A wire type that proto2 messages here do not have.
    #[error("proto: illegal wireType {0}")]
    WireType(u8),
    /// A field has another wire type than its declaration.
    #[error("proto: wrong wireType for field {0}")]
    Mismatch(&'static str),
    /// Text that is not UTF-8.
    #[error("proto: invalid UTF-8 in field {0}")]
    Utf8(&'static str),
    /// Embedded JSON that is none.
    #[error("invalid JSON in field {0}")]
    Json(&'static str),
    /// The value does not fit the field.
    #[error("field {0} has a value of another type")]
    Value(&'static str),
    /// The envelope has an encoding that we do not know.
    #[error("content encoding {0:?} is not supported")]
    Encoding(String),
    /// Messages within messages without end.
    #[error("proto: too many nested messages")]
    Depth,
    /// The kind has no message.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Kind {
        /// The object's apiVersion.
        api_version: String,
        /// The object's kind.
        kind: String,
    },
}

/// Decodes an object with its envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, Status> {
    decode_envelope(bytes).map_err(|e| Status::bad_request(e.to_string()))
}

/// Encodes an object with its envelope.
pub fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    let (api_version, kind) = (path::str(value, "apiVersion"), path::str(value, "kind"));
    let message = message_of(api_version, kind)?;
    let mut type_meta = Vec::new();
    wire::put_bytes(&mut type_meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut raw = Vec::new();
    write::message(&mut raw, message, value)?;
    let mut out = MAGIC.to_vec();
    wire::put_bytes(&mut out, 1, &type_meta);
    wire::put_bytes(&mut out, 2, &raw);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

fn decode_envelope(bytes: &[u8]) -> Result<Value, Error> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Error::Magic)?;
    let (mut api_version, mut kind, mut raw, mut content_type) = (String::new(), String::new(), &[][..], String::new());
    for field in wire::Fields::new(body) {
        match field? {
            (1, wire::Item::Bytes(meta)) => {
                for field in wire::Fields::new(meta) {
                    match field? {
                        (1, wire::Item::Bytes(text)) => api_version = wire::text(text, "apiVersion")?,
                        (2, wire::Item::Bytes(text)) => kind = wire::text(text, "kind")?,
                        _ => {}
                    }
                }
            }
            (2, wire::Item::Bytes(bytes)) => raw = bytes,
            (3, wire::Item::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(Error::Encoding(wire::text(encoding, "contentEncoding")?));
            }
            (4, wire::Item::Bytes(text)) => content_type = wire::text(text, "contentType")?,
            _ => {}
        }
    }
    if content_type == "application/json" {
        return serde_json::from_slice(raw).map_err(|_| Error::Json("raw"));
    }
    let mut out = json!({ "kind": kind, "apiVersion": api_version });
    let message = message_of(&api_version, &kind)?;
    read::message(raw, message, path::object(&mut out), 0)?;
    Ok(out)
}

fn message_of(api_version: &str, kind: &str) -> Result<&'static table::Message, Error> {
    let (group, version) = schema::split_api_version(api_version);
    let ty = schema::shape::type_of_kind(group, version, kind).or_else(|| match kind {
        // Options are registered in every group.
        "DeleteOptions" => schema::shape::type_by_kind(kind),
        _ => None,
    });
    let unknown = || Error::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    ty.and_then(|ty| table::of_type(ty.name)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests;
