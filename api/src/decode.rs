//! Bodies of requests → objects: JSON, YAML and protobuf, checked against the type table.
//!
//! Gives the object with unknown fields pruned, and what strict field validation would say. Fills in nothing: defaults are
//! the registry's. Refusals have the words of the reference: Go's decoder, and the API machinery around it.

mod check;
mod text;
mod time;

use serde_json::Value;

use crate::{
    path, pb,
    schema::{
        self, Row,
        shape::{self, Type},
    },
    status::{Status, quote},
};

pub use time::{format_micro_time, format_time, parse_time};

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
    let (value, duplicates) = parse(format, body).map_err(|why| {
        let kind = expected.map_or("object", |row| row.kind);
        let summary = summarize(body);
        let text = format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {why} ({summary})"
        );
        Status::bad_request(text)
    })?;
    let Some(row) = expected else {
        return check_by_own_kind(value, duplicates, body);
    };
    check_with(value, row, duplicates)
}

/// Decodes a body of a kind that is no resource: DeleteOptions, Binding, TokenRequest, SubjectAccessReview, Scale, Eviction.
pub fn decode_options(kind: &str, format: Format, body: &[u8]) -> Result<Value, Status> {
    decode_kind(kind, format, body).map(|d| d.value)
}

/// The same with what strict decoding says.
pub fn decode_kind(kind: &str, format: Format, body: &[u8]) -> Result<Decoded, Status> {
    let (mut value, mut unknown) = parse(format, body)
        .map_err(|why| Status::bad_request(format!("couldn't get version/kind; {why} ({})", summarize(body))))?;
    let given = path::str(&value, "kind");
    if !given.is_empty() && given != kind {
        return Err(Status::bad_request(format!("{given} cannot be handled as a {kind}: unexpected kind")));
    }
    let api_version = path::str(&value, "apiVersion").to_owned();
    let (group, version) = schema::split_api_version(&api_version);
    let ty = shape::type_of_kind(group, version, kind).or_else(|| shape::type_by_kind(kind));
    let Some(ty) = ty else {
        return Err(Status::bad_request(format!("no kind \"{kind}\" is registered")));
    };
    if value.is_object() {
        fill_type(&mut value, &own_api_version(ty), kind);
    }
    let value = check::object(value, ty, &mut unknown).map_err(|why| cannot_handle(kind, version, kind, &why))?;
    Ok(Decoded { value, unknown })
}

/// The same checks for an object that is JSON already: the result of a patch.
pub fn check(value: Value, expected: &Row) -> Result<Decoded, Status> {
    check_with(value, expected, Vec::new())
}

/// The refusal of a strict request whose body has unknown or duplicate fields.
pub fn strict_error(row: &Row, unknown: &[String]) -> Status {
    cannot_handle(row.kind, row.version, row.kind, &format!("strict decoding error: {}", unknown.join(", ")))
}

fn parse(format: Format, body: &[u8]) -> Result<(Value, Vec<String>), String> {
    match format {
        Format::Json => text::json(body),
        Format::Yaml => text::yaml(body),
        Format::Protobuf => pb::decode(body).map(|v| (v, Vec::new())).map_err(|status| status.message),
    }
}

fn check_with(mut value: Value, row: &Row, mut unknown: Vec<String>) -> Result<Decoded, Status> {
    if value.is_object() {
        check_version_and_kind(&value, row)?;
        fill_type(&mut value, &row.api_version(), row.kind);
    }
    let value = match shape::lookup(row.type_name()) {
        Some(ty) => check::object(value, ty, &mut unknown)
            .map_err(|why| cannot_handle(row.kind, row.version, row.kind, &why))?,
        None => {
            check::custom(value, &mut unknown).map_err(|why| cannot_handle(row.kind, row.version, row.kind, &why))?
        }
    };
    Ok(Decoded { value, unknown })
}

/// An object whose kind nobody told us: it must say itself, and be one that we serve.
fn check_by_own_kind(value: Value, unknown: Vec<String>, body: &[u8]) -> Result<Decoded, Status> {
    let (api_version, kind) = (path::str(&value, "apiVersion"), path::str(&value, "kind"));
    if kind.is_empty() {
        return Err(Status::bad_request(format!("Object 'Kind' is missing in '{}'", String::from_utf8_lossy(body))));
    }
    if api_version.is_empty() {
        return Err(Status::bad_request(format!(
            "Object 'apiVersion' is missing in '{}'",
            String::from_utf8_lossy(body)
        )));
    }
    let row = schema::row_of(api_version, kind).ok_or_else(|| not_registered(api_version, kind))?;
    check_with(value, row, unknown)
}

fn check_version_and_kind(value: &Value, row: &Row) -> Result<(), Status> {
    let (given_version, kind) = (path::str(value, "apiVersion"), path::str(value, "kind"));
    let expected = row.api_version();
    let api_version = if given_version.is_empty() { expected.as_str() } else { given_version };
    let same_kind = kind.is_empty() || kind == row.kind;
    if same_kind && api_version == expected {
        return Ok(());
    }
    let (group, version) = schema::split_api_version(api_version);
    if row.type_name().is_empty()
        || shape::type_of_kind(group, version, if kind.is_empty() { row.kind } else { kind }).is_some()
    {
        if api_version != expected {
            let text = format!(
                "the API version in the data ({api_version}) does not match the expected API version ({expected})"
            );
            return Err(Status::bad_request(text));
        }
        let internal = if row.group.is_empty() { "core" } else { row.group.split('.').next().unwrap_or("") };
        let why = format!("converting ({version}.{kind}) to ({internal}.{}): unknown conversion", row.kind);
        return Err(cannot_handle(kind, version, row.kind, &why));
    }
    let why = not_registered(api_version, if kind.is_empty() { row.kind } else { kind });
    Err(cannot_handle(if kind.is_empty() { row.kind } else { kind }, version, row.kind, &why.message))
}

fn not_registered(api_version: &str, kind: &str) -> Status {
    let text = format!(
        "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        quote(kind),
        quote(api_version)
    );
    Status::bad_request(text)
}

fn cannot_handle(kind: &str, version: &str, expected: &str, why: &str) -> Status {
    Status::bad_request(format!("{kind} in version {} cannot be handled as a {expected}: {why}", quote(version)))
}

/// Writes apiVersion and kind where the body leaves them out.
fn fill_type(value: &mut Value, api_version: &str, kind: &str) {
    let Some(map) = value.as_object_mut() else { return };
    for (key, text) in [("apiVersion", api_version), ("kind", kind)] {
        if map.get(key).is_none_or(|v| v.is_null() || v == "") {
            map.shift_remove(key);
            map.shift_insert(0, key.to_owned(), Value::from(text));
        }
    }
}

fn own_api_version(ty: &Type) -> String {
    ty.gvk.first().map_or_else(|| "v1".to_owned(), |(group, version, _)| schema::api_version(group, version))
}

/// The start of a body, as upstream shows it: JSON as text, anything else in hexadecimal.
fn summarize(body: &[u8]) -> String {
    let short = &body[..body.len().min(30)];
    let more = if body.len() > 30 { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(short)),
        Some(_) => format!("{}{more}", short.iter().map(|b| format!("{b:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests;
