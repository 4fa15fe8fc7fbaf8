//! JSON and YAML text → values, with the paths of keys that are there twice (the last one wins, as in Go).

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::Object;

type Parsed = Result<(Value, Vec<String>), String>;

/// Parses JSON.
pub(super) fn json(body: &[u8]) -> Parsed {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed { path: Path::Root, duplicates: &duplicates };
    let value = seed.deserialize(&mut deserializer).and_then(|v| deserializer.end().map(|()| v));
    let value = value.map_err(|e| format!("json parse error: {e}"))?;
    Ok((value, duplicates.into_inner()))
}

/// Parses one YAML document.
pub(super) fn yaml(body: &[u8]) -> Parsed {
    let duplicates = RefCell::new(Vec::new());
    let seed = Seed { path: Path::Root, duplicates: &duplicates };
    let value = seed.deserialize(serde_yaml_ng::Deserializer::from_slice(body)).map_err(|e| format!("yaml: {e}"))?;
    Ok((value, duplicates.into_inner()))
}

/// Where we are; built on the stack, printed only when something is wrong.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Seed<'a> {
    path: Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = Path::Index(&self.path, items.len());
            match seq.next_element_seed(Seed { path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Object::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let path = Path::Key(&self.path, &key);
            let value = map.next_value_seed(Seed { path, duplicates: self.duplicates })?;
            if out.contains_key(&key) {
                self.duplicates.borrow_mut().push(format!("duplicate field \"{path}\""));
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

/// A map key; YAML's numbers and booleans become text, as upstream's conversion to JSON has it.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json as j;

    use super::*;

    #[test]
    fn duplicates_are_named_and_the_last_wins() {
        let (value, duplicates) = json(br#"{"a": {"b": 1, "b": 2}, "c": [{"d": 1, "d": 1}]}"#).unwrap();
        assert_eq!(value, j!({"a": {"b": 2}, "c": [{"d": 1}]}));
        assert_eq!(duplicates, ["duplicate field \"a.b\"", "duplicate field \"c[0].d\""]);
    }

    #[test]
    fn yaml_is_json_with_other_marks() {
        let (value, _) = yaml(b"a:\n  b: 1\n  'c': [true, ~, 1.5]\n8080: x\n").unwrap();
        assert_eq!(value, j!({"a": {"b": 1, "c": [true, null, 1.5]}, "8080": "x"}));
    }

    #[test]
    fn rubbish_is_refused() {
        assert!(json(b"{").is_err() && json(b"{} x").is_err() && yaml(b"a: [").is_err());
    }
}
