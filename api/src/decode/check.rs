//! A value against its type: wrong types are refused in Go's words, unknown fields pruned and named.
//!
//! The result is what the reference's decoder and encoder would leave of the object: nulls and unset values are gone,
//! times and quantities are in their canonical form.

use base64::Engine;
use serde_json::Value;

use super::{text::Path, time};
use crate::{
    Object, quantity,
    schema::shape::{self, Field, Shape, Special, Type},
    status::quote,
};

/// At most so many strict errors are told, as upstream.
const MAX_STRICT_ERRORS: usize = 100;

/// Checks a whole object of a type.
pub(super) fn object(value: Value, ty: &'static Type, unknown: &mut Vec<String>) -> Result<Value, String> {
    let at = Place { path: Path::Root, names: Path::Root, owner: None };
    let mut walk = Walk { unknown };
    match value {
        Value::Object(map) => walk.fields(map, ty, at).map(Value::Object),
        other => Err(format!("json: cannot unmarshal {} into Go value of type {}", json_kind(&other), ty.go_name())),
    }
}

/// Checks a custom resource: only its metadata has a type here.
pub(super) fn custom(value: Value, unknown: &mut Vec<String>) -> Result<Value, String> {
    let Value::Object(mut map) = value else {
        return Err("json: cannot unmarshal into an object".to_owned());
    };
    let meta = shape::lookup("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    if let (Some(metadata), Some(meta)) = (map.get_mut("metadata"), meta) {
        let (root, names) = (Path::Root, Path::Root);
        let at = Place { path: Path::Key(&root, "metadata"), names: Path::Key(&names, "metadata"), owner: None };
        let mut walk = Walk { unknown };
        *metadata = walk.reference(metadata.take(), meta, at)?;
    }
    Ok(Value::Object(map))
}

/// Where a value stands: its path with indices, its path as Go prints it, and the struct that has the field.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: Path<'a>,
    names: Path<'a>,
    owner: Option<&'static Type>,
}

struct Walk<'a> {
    unknown: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn fields(&mut self, map: Object, ty: &'static Type, at: Place<'_>) -> Result<Object, String> {
        let mut out = Object::with_capacity(map.len());
        for (name, value) in map {
            let Some(field) = ty.field(&name) else {
                if self.unknown.len() < MAX_STRICT_ERRORS {
                    self.unknown.push(format!("unknown field \"{}\"", Path::Key(&at.path, &name)));
                }
                continue;
            };
            if value.is_null() {
                continue;
            }
            let place = Place { path: Path::Key(&at.path, &name), names: Path::Key(&at.names, &name), owner: Some(ty) };
            let value = self.value(value, &field.shape, place)?;
            if !is_unset(&value, field) {
                out.insert(name, value);
            }
        }
        Ok(out)
    }

    fn value(&mut self, value: Value, shape: &'static Shape, at: Place<'_>) -> Result<Value, String> {
        match (shape, value) {
            (Shape::Ref(id), value) => self.reference(value, shape::get(*id), at),
            (Shape::String, value @ Value::String(_)) | (Shape::Bool, value @ Value::Bool(_)) | (Shape::Any, value) => {
                Ok(value)
            }
            (Shape::Int32, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                Ok(Value::Number(n))
            }
            (Shape::Int64, Value::Number(n)) if n.is_i64() => Ok(Value::Number(n)),
            (Shape::Number, value @ Value::Number(_)) => Ok(value),
            (Shape::Bytes, Value::String(text)) => bytes(&text),
            (Shape::Array(items), Value::Array(list)) => self.array(list, items, at),
            (Shape::Map(values), Value::Object(map)) => self.map(map, values, at),
            (_, value) => Err(wrong_type(&value, &go_type(shape), at)),
        }
    }

    fn reference(&mut self, value: Value, ty: &'static Type, at: Place<'_>) -> Result<Value, String> {
        match (ty.special, value) {
            (Special::RawExtension | Special::Json, value)
            | (Special::IntOrString, value @ Value::String(_))
            | (Special::FieldsV1, value @ Value::Object(_)) => Ok(value),
            (Special::None, Value::Object(map)) => self.fields(map, ty, at).map(Value::Object),
            (Special::Time, Value::String(text)) => parse_time(&text, time::format_time),
            (Special::MicroTime, Value::String(text)) => parse_time(&text, time::format_micro_time),
            (Special::Time | Special::MicroTime, value) => {
                Err(wrong_type(&value, "string", Place { owner: None, ..at }))
            }
            (Special::Quantity, Value::String(text)) => canonical_quantity(&text),
            (Special::Quantity, Value::Number(number)) => canonical_quantity(&number.to_string()),
            (Special::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                Ok(Value::Number(n))
            }
            (Special::IntOrString, value) => Err(wrong_type(&value, "int32", Place { owner: None, ..at })),
            (Special::Quantity, value) => canonical_quantity(&value.to_string()),
            (_, value) => Err(wrong_type(&value, &ty.go_name(), at)),
        }
    }

    fn array(&mut self, list: Vec<Value>, shape: &'static Shape, at: Place<'_>) -> Result<Value, String> {
        let mut out = Vec::with_capacity(list.len());
        for (i, item) in list.into_iter().enumerate() {
            let place = Place { path: Path::Index(&at.path, i), ..at };
            out.push(if item.is_null() { zero(shape) } else { self.value(item, shape, place)? });
        }
        Ok(Value::Array(out))
    }

    fn map(&mut self, map: Object, shape: &'static Shape, at: Place<'_>) -> Result<Value, String> {
        let mut out = Object::with_capacity(map.len());
        for (key, value) in map {
            let place = Place { path: Path::Key(&at.path, &key), ..at };
            let value = if value.is_null() { zero(shape) } else { self.value(value, shape, place)? };
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// What Go's encoder would leave out.
fn is_unset(value: &Value, field: &Field) -> bool {
    if field.always {
        return false;
    }
    match (&field.shape, value) {
        (Shape::Array(_), Value::Array(list)) => list.is_empty(),
        (Shape::Map(_), Value::Object(map)) => map.is_empty(),
        (_, Value::String(text)) => text.is_empty() && !field.keeps_zero,
        (_, Value::Number(n)) => n.as_i64() == Some(0) && !field.keeps_zero,
        (_, Value::Bool(b)) => !b && !field.keeps_zero,
        (_, other) => other.is_null(),
    }
}

/// What null means inside a list or a map: the zero of the type.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes => Value::from(""),
        Shape::Int32 | Shape::Int64 | Shape::Number => Value::from(0),
        Shape::Bool => Value::Bool(false),
        Shape::Array(_) => Value::Array(Vec::new()),
        Shape::Map(_) => Value::Object(Object::new()),
        Shape::Any => Value::Null,
        Shape::Ref(id) => match shape::get(*id).special {
            Special::None | Special::FieldsV1 => Value::Object(Object::new()),
            Special::Quantity => Value::from("0"),
            Special::IntOrString => Value::from(0),
            _ => Value::Null,
        },
    }
}

fn bytes(text: &str) -> Result<Value, String> {
    let engine = base64::engine::general_purpose::STANDARD;
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match engine.decode(&clean) {
        Ok(_) => Ok(Value::String(clean)),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => clean.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn parse_time(text: &str, format: fn(jiff::Timestamp) -> String) -> Result<Value, String> {
    let time = time::parse_time(text).ok_or_else(|| {
        let quoted = quote(text);
        format!("parsing time {} as \"2006-01-02T15:04:05Z07:00\": cannot parse {quoted} as \"2006\"", quote(&quoted))
    })?;
    Ok(Value::String(format(time)))
}

fn canonical_quantity(text: &str) -> Result<Value, String> {
    quantity::canonical(text.trim()).map(Value::String).map_err(|e| e.to_string())
}

fn wrong_type(value: &Value, go_type: &str, at: Place<'_>) -> String {
    let kind = match value {
        Value::Number(n) if go_type.starts_with("int") => format!("number {n}"),
        other => json_kind(other).to_owned(),
    };
    match at.owner {
        Some(owner) => format!(
            "json: cannot unmarshal {kind} into Go struct field {}.{} of type {go_type}",
            owner.short_name(),
            at.names
        ),
        None => format!("json: cannot unmarshal {kind} into Go value of type {go_type}"),
    }
}

fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Ref(id) => shape::get(*id).go_name(),
        Shape::Array(items) => format!("[]{}", go_type(items)),
        Shape::Map(values) => format!("map[string]{}", go_type(values)),
        Shape::Any => "interface {}".to_owned(),
    }
}
