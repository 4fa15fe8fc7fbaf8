//! JSON objects → messages. Fields are written in the order of their numbers, maps in the order of their keys.

use base64::Engine;
use serde_json::Value;

use super::{
    Error,
    special::{self, Wrapper},
    table::{self, Kind, Label, Message, PbField},
    wire,
};

/// Writes an object's fields; what the table does not know is left out.
pub(super) fn message(out: &mut Vec<u8>, message: &'static Message, value: &Value) -> Result<(), Error> {
    for field in &message.fields {
        if field.inlined() {
            write_inlined(out, field, value)?;
            continue;
        }
        match (field.label, value.get(field.name)) {
            (_, None | Some(Value::Null)) => {}
            (Label::Repeated, Some(Value::Array(items))) => {
                items.iter().try_for_each(|item| scalar(out, field, field.number, item))?;
            }
            (Label::Map, Some(Value::Object(map))) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                for key in keys {
                    let mut entry = Vec::new();
                    wire::put_bytes(&mut entry, 1, key.as_bytes());
                    scalar(&mut entry, field, 2, &map[key])?;
                    wire::put_bytes(out, field.number, &entry);
                }
            }
            (Label::One, Some(value)) => scalar(out, field, field.number, value)?,
            _ => return Err(Error::Value(field.name)),
        }
    }
    Ok(())
}

fn write_inlined(out: &mut Vec<u8>, field: &'static PbField, value: &Value) -> Result<(), Error> {
    let Kind::Message(index) = field.kind else { return Err(Error::Value("inline")) };
    let mut inner = Vec::new();
    message(&mut inner, table::get(index), value)?;
    wire::put_bytes(out, field.number, &inner);
    Ok(())
}

fn scalar(out: &mut Vec<u8>, field: &'static PbField, number: u32, value: &Value) -> Result<(), Error> {
    match (field.kind, value) {
        (Kind::String, Value::String(text)) => wire::put_bytes(out, number, text.as_bytes()),
        (Kind::Bytes, Value::String(text)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| Error::Value(field.name))?;
            wire::put_bytes(out, number, &bytes);
        }
        (Kind::Int, Value::Number(n)) => wire::put_int(out, number, n.as_i64().ok_or(Error::Value(field.name))?),
        (Kind::Bool, Value::Bool(b)) => wire::put_int(out, number, i64::from(*b)),
        (Kind::Double, Value::Number(n)) => {
            wire::put_tag(out, number, 1);
            out.extend_from_slice(&n.as_f64().ok_or(Error::Value(field.name))?.to_le_bytes());
        }
        (Kind::Message(index), value) => {
            let mut inner = Vec::new();
            let message = table::get(index);
            if message.wrapper == Wrapper::None {
                self::message(&mut inner, message, value)?;
            } else {
                special::write(&mut inner, message, value)?;
            }
            wire::put_bytes(out, number, &inner);
        }
        _ => return Err(Error::Value(field.name)),
    }
    Ok(())
}
