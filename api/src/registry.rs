//! What differs per kind: defaults, validation, and what a write may change. Everything else is the store's, once for all.
//!
//! Order of a create: [`default`], [`prepare_create`], admission, [`validate_create`]. Of an update: [`default`],
//! [`prepare_update`], admission, [`validate_update`]. A kind without a file of its own has only ObjectMeta's rules.

pub mod names;

use jiff::Timestamp;
use serde_json::Value;

use crate::{schema::Row, status::FieldError};

/// Who writes what, and when.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// The resource.
    pub row: &'a Row,
    /// The server's time.
    pub now: Timestamp,
    /// The user's name.
    pub user: &'a str,
    /// The subresource written, if any.
    pub subresource: Option<&'a str>,
}

/// Fills in upstream's defaults.
pub fn default(row: &Row, value: &mut Value) {
    let _ = (row, value);
}

/// Readies a new object: no status from the client, generation 1. uid, creationTimestamp and generateName are the store's.
pub fn prepare_create(ctx: &Ctx<'_>, value: &mut Value) {
    let _ = (ctx, value);
}

/// Readies an update: the main resource keeps the old status, a status write keeps everything else; a change of the spec
/// raises the generation.
pub fn prepare_update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    let _ = (ctx, new, old);
}

/// What is wrong with a new object.
pub fn validate_create(ctx: &Ctx<'_>, value: &Value) -> Vec<FieldError> {
    let _ = (ctx, value);
    Vec::new()
}

/// What is wrong with an update.
pub fn validate_update(ctx: &Ctx<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
    let _ = (ctx, new, old);
    Vec::new()
}

/// Whether a PUT to a name that is not there creates the object.
pub fn allow_create_on_update(row: &Row) -> bool {
    let _ = row;
    false
}

/// Whether an update without a resourceVersion is taken.
pub fn allow_unconditional_update(row: &Row) -> bool {
    let _ = row;
    true
}
