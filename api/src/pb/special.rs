//! Wrapper messages whose JSON form is not an object of their fields.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Error, read, table,
    wire::{self, Fields, Item},
    write,
};
use crate::{Object, decode};

/// Which wrapper a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrapper {
    None,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// RawExtension, FieldsV1, JSON: a field of bytes that is JSON text.
    Raw,
    /// A list in a message of its own: Verbs, ExtraValue.
    Items,
    Duration,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
}

impl Wrapper {
    /// By the message's full name.
    pub(super) fn of(name: &str) -> Wrapper {
        match name {
            "apimachinery.pkg.apis.meta.v1.Time" => Wrapper::Time,
            "apimachinery.pkg.apis.meta.v1.MicroTime" => Wrapper::MicroTime,
            "apimachinery.pkg.apis.meta.v1.Duration" => Wrapper::Duration,
            "apimachinery.pkg.apis.meta.v1.FieldsV1"
            | "apimachinery.pkg.runtime.RawExtension"
            | "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON" => Wrapper::Raw,
            "apimachinery.pkg.apis.meta.v1.Verbs" => Wrapper::Items,
            "apimachinery.pkg.api.resource.Quantity" => Wrapper::Quantity,
            "apimachinery.pkg.util.intstr.IntOrString" => Wrapper::IntOrString,
            "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => Wrapper::SchemaOrArray,
            "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => Wrapper::SchemaOrBool,
            "apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => {
                Wrapper::SchemaOrStrings
            }
            _ if name.ends_with(".ExtraValue") => Wrapper::Items,
            _ => Wrapper::None,
        }
    }
}

/// Reads a wrapper; null if it is the type's zero.
pub(super) fn read(bytes: &[u8], message: &'static table::Message, depth: usize) -> Result<Value, Error> {
    match message.wrapper {
        Wrapper::Time => Ok(time(bytes)?.map_or(Value::Null, |t| Value::from(decode::format_time(t)))),
        Wrapper::MicroTime => Ok(time(bytes)?.map_or(Value::Null, |t| Value::from(decode::format_micro_time(t)))),
        Wrapper::IntOrString => int_or_string(bytes),
        Wrapper::Quantity => {
            Ok(Value::from(first_bytes(bytes)?.map_or(Ok("0".to_owned()), |b| wire::text(b, "quantity"))?))
        }
        Wrapper::Raw => match first_bytes(bytes)?.unwrap_or_default() {
            b"" => Ok(Value::Null),
            raw if raw.starts_with(super::MAGIC) => super::decode_envelope(raw),
            raw => serde_json::from_slice(raw).map_err(|_| Error::Json("raw")),
        },
        Wrapper::Duration => {
            let nanos = ints(bytes)?.first().map_or(0, |(_, n)| *n);
            Ok(Value::from(format!("{}s", nanos / 1_000_000_000)))
        }
        Wrapper::Items | Wrapper::SchemaOrArray | Wrapper::SchemaOrBool | Wrapper::SchemaOrStrings | Wrapper::None => {
            let mut fields = Object::new();
            read::message(bytes, message, &mut fields, depth)?;
            Ok(unwrap(message.wrapper, fields))
        }
    }
}

/// The JSON form of a wrapper with fields.
fn unwrap(wrapper: Wrapper, mut fields: Object) -> Value {
    let mut take = |name: &str| fields.shift_remove(name);
    match wrapper {
        Wrapper::Items => take("items").unwrap_or_else(|| Value::Array(Vec::new())),
        Wrapper::SchemaOrArray => take("schema").or_else(|| take("jSONSchemas")).unwrap_or(Value::Null),
        Wrapper::SchemaOrBool => take("schema").or_else(|| take("allows")).unwrap_or(Value::Bool(false)),
        Wrapper::SchemaOrStrings => take("schema").or_else(|| take("property")).unwrap_or(Value::Null),
        _ => Value::Object(fields),
    }
}

/// Writes the body of a wrapper.
pub(super) fn write(out: &mut Vec<u8>, message: &'static table::Message, value: &Value) -> Result<(), Error> {
    if value.is_null() {
        return Ok(()); // The type's zero: an empty message.
    }
    let as_text = |field| value.as_str().ok_or(Error::Value(field));
    match message.wrapper {
        Wrapper::Time | Wrapper::MicroTime => {
            let time = decode::parse_time(as_text("time")?).ok_or(Error::Value("time"))?;
            wire::put_int(out, 1, time.as_second());
            wire::put_int(out, 2, i64::from(time.subsec_nanosecond()));
        }
        Wrapper::Quantity => wire::put_bytes(out, 1, as_text("quantity")?.as_bytes()),
        Wrapper::IntOrString => {
            wire::put_int(out, 1, i64::from(value.is_string()));
            wire::put_int(out, 2, value.as_i64().unwrap_or(0));
            wire::put_bytes(out, 3, value.as_str().unwrap_or("").as_bytes());
        }
        Wrapper::Raw => wire::put_bytes(out, 1, value.to_string().as_bytes()),
        Wrapper::Duration => {
            let seconds =
                as_text("duration")?.trim_end_matches('s').parse::<i64>().map_err(|_| Error::Value("duration"))?;
            wire::put_int(out, 1, seconds * 1_000_000_000);
        }
        wrapper => write::message(out, message, &wrap(wrapper, value))?,
    }
    Ok(())
}

/// The fields that a wrapper's JSON form stands for.
fn wrap(wrapper: Wrapper, value: &Value) -> Value {
    let one = |name: &str| serde_json::json!({ name: value });
    match (wrapper, value) {
        (Wrapper::Items, _) => one("items"),
        (Wrapper::SchemaOrArray, Value::Array(_)) => one("jSONSchemas"),
        (Wrapper::SchemaOrStrings, Value::Array(_)) => one("property"),
        (Wrapper::SchemaOrBool, Value::Bool(_)) => one("allows"),
        (Wrapper::SchemaOrBool, _) => serde_json::json!({ "allows": true, "schema": value }),
        (Wrapper::SchemaOrArray | Wrapper::SchemaOrStrings, _) => one("schema"),
        _ => value.clone(),
    }
}

/// Seconds and nanoseconds; nothing at all is the zero time, which JSON calls null.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, Error> {
    let fields = ints(bytes)?;
    if fields.is_empty() {
        return Ok(None);
    }
    let of = |number| fields.iter().find(|(n, _)| *n == number).map_or(0, |(_, v)| *v);
    let nanos = i32::try_from(of(2)).map_err(|_| Error::Value("nanos"))?;
    Timestamp::new(of(1), nanos).map(Some).map_err(|_| Error::Value("seconds"))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields::new(bytes) {
        match field? {
            (1, Item::Varint(kind)) => is_text = kind == 1,
            (2, Item::Varint(n)) => number = n.cast_signed(),
            (3, Item::Bytes(b)) => text = wire::text(b, "strVal")?,
            _ => {}
        }
    }
    Ok(if is_text { Value::from(text) } else { Value::from(number) })
}

fn ints(bytes: &[u8]) -> Result<Vec<(u32, i64)>, Error> {
    let mut out = Vec::new();
    for field in Fields::new(bytes) {
        if let (number, Item::Varint(value)) = field? {
            out.push((number, value.cast_signed()));
        }
    }
    Ok(out)
}

fn first_bytes(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    for field in Fields::new(bytes) {
        if let (1, Item::Bytes(found)) = field? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
