//! The Kubernetes API's semantics, pure: schema, patches, selectors, printing, protobuf, defaults, validation.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no global state beyond the tables of `schema/`, which
//! are facts of the API (kinds, types, protobuf numbers) and are parsed once. Objects are `serde_json::Value`. The server
//! around it (HTTP, storage, watches, admission) is the crate `control-plane`; it never names a kind's fields itself.

pub mod convert;
pub mod decode;
pub mod discovery;
pub mod openapi;
pub mod patch;
pub mod path;
pub mod pb;
pub mod print;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod select;
pub mod status;

/// A JSON object map, order preserved.
pub type Object = serde_json::Map<String, serde_json::Value>;
