//! Messages → JSON objects.

use base64::Engine;
use serde_json::{Number, Value};

use super::{
    Error,
    special::{self, Wrapper},
    table::{self, Kind, Label, Message, PbField},
    wire::{self, Fields, Item},
};
use crate::{Object, path};

/// Deeper than any type but JSON schemas, which are no deeper in JSON either.
const MAX_DEPTH: usize = 100;

/// Reads a message's fields into an object; fields that the table does not know are skipped.
pub(super) fn message(bytes: &[u8], message: &'static Message, out: &mut Object, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    for item in Fields::new(bytes) {
        let (number, item) = item?;
        let Some(field) = message.field(number) else { continue };
        match (field.label, item) {
            (Label::Map, Item::Bytes(entry)) => map_entry(entry, field, out, depth)?,
            (Label::Repeated, Item::Bytes(packed)) if matches!(field.kind, Kind::Int | Kind::Bool) => {
                let mut rest = packed;
                while !rest.is_empty() {
                    let value = scalar(Item::Varint(wire::varint(&mut rest)?), field, depth)?;
                    push(out, field.name, value);
                }
            }
            (Label::Repeated, item) => {
                let value = scalar(item, field, depth)?;
                push(out, field.name, value);
            }
            (_, Item::Bytes(inner)) if field.inlined() => {
                let Kind::Message(index) = field.kind else { return Err(Error::Mismatch("inline")) };
                self::message(inner, table::get(index), out, depth + 1)?;
            }
            (_, item) => {
                let value = scalar(item, field, depth)?;
                if !value.is_null() {
                    out.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn push(out: &mut Object, name: &str, value: Value) {
    if let Value::Array(list) = out.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new())) {
        list.push(value);
    }
}

/// A map entry is a message of key (1) and value (2); either may be left out.
fn map_entry(bytes: &[u8], field: &'static PbField, out: &mut Object, depth: usize) -> Result<(), Error> {
    let (mut key, mut value) = (String::new(), None);
    for item in Fields::new(bytes) {
        match item? {
            (1, Item::Bytes(text)) => key = wire::text(text, field.name)?,
            (2, item) => value = Some(scalar(item, field, depth)?),
            _ => {}
        }
    }
    let value = value.unwrap_or_else(|| {
        if matches!(field.kind, Kind::Message(_)) { Value::Object(Object::new()) } else { Value::from("") }
    });
    path::object(out.entry(field.name.to_owned()).or_insert(Value::Null)).insert(key, value);
    Ok(())
}

fn scalar(item: Item<'_>, field: &'static PbField, depth: usize) -> Result<Value, Error> {
    match (field.kind, item) {
        (Kind::String, Item::Bytes(bytes)) => wire::text(bytes, field.name).map(Value::from),
        (Kind::Bytes, Item::Bytes(bytes)) => Ok(Value::from(base64::engine::general_purpose::STANDARD.encode(bytes))),
        (Kind::Int, Item::Varint(value)) => Ok(Value::from(value.cast_signed())),
        (Kind::Bool, Item::Varint(value)) => Ok(Value::Bool(value != 0)),
        (Kind::Double, Item::Fixed64(bits)) => Ok(double(f64::from_bits(bits))),
        (Kind::Message(index), Item::Bytes(bytes)) => {
            let inner = table::get(index);
            if inner.wrapper != Wrapper::None {
                return special::read(bytes, inner, depth + 1);
            }
            let mut out = Object::new();
            message(bytes, inner, &mut out, depth + 1)?;
            Ok(Value::Object(out))
        }
        _ => Err(Error::Mismatch(field.name)),
    }
}

/// Whole numbers stay whole, as Go prints them.
fn double(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "whole and small enough, checked beside it")]
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
