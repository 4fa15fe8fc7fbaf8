//! Reading fields of an object by path, as Go would see them: an absent field is its zero value.

use serde_json::Value;

use crate::Object;

/// The value at a dotted path, or null.
pub fn get<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |v, key| v.get(key).unwrap_or(&Value::Null))
}

/// The string at a dotted path, or empty.
pub fn str<'a>(value: &'a Value, path: &str) -> &'a str {
    get(value, path).as_str().unwrap_or("")
}

/// The integer at a dotted path, if there is one.
pub fn int(value: &Value, path: &str) -> Option<i64> {
    get(value, path).as_i64()
}

/// The boolean at a dotted path, or false.
pub fn bool(value: &Value, path: &str) -> bool {
    get(value, path).as_bool().unwrap_or(false)
}

/// The items of the list at a dotted path; none if it is absent.
pub fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The map at a dotted path, if it is there.
pub fn map<'a>(value: &'a Value, path: &str) -> Option<&'a Object> {
    get(value, path).as_object()
}

/// The keys and string values of the map at a dotted path.
pub fn strings<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    map(value, path).into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or("")))
}

/// The object at a dotted path, made where it is missing.
pub fn entry<'a>(value: &'a mut Value, path: &str) -> &'a mut Object {
    let mut at = value;
    for key in path.split('.').filter(|k| !k.is_empty()) {
        at = object(at).entry(key.to_owned()).or_insert(Value::Null);
    }
    object(at)
}

/// The value as an object, made one if it is not.
pub fn object(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = Value::Object(Object::new());
    }
    value.as_object_mut().expect("made an object above")
}

/// Whether Go would call the value unset: null, "", 0, false, or an empty list or map.
pub fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

/// Whether two values are the same once unset fields are left out, as upstream's semantic equality has it.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let half = |x: &Object, y: &Object| x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&Value::Null)));
            half(a, b) && b.iter().all(|(k, v)| a.contains_key(k) || is_empty(v))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same(x, y)),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        (a, b) => a == b,
    }
}

/// Null, or a list or map without content: what an encoder leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_fields_read_as_zero() {
        let pod = json!({"spec": {"hostNetwork": true}});
        assert!(bool(&pod, "spec.hostNetwork"));
        assert_eq!((str(&pod, "spec.nodeName"), list(&pod, "spec.containers").len()), ("", 0));
    }

    #[test]
    fn semantic_equality_leaves_out_what_is_unset() {
        assert!(same(&json!({"a": null, "b": []}), &json!({"c": {}})));
        assert!(same(&json!({"a": {"b": null}}), &json!({})));
        assert!(!same(&json!({"a": 1}), &json!({})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": [2]})));
    }

    #[test]
    fn entry_makes_what_is_missing() {
        let mut value = json!({});
        entry(&mut value, "metadata.labels").insert("a".into(), json!("b"));
        assert_eq!(value, json!({"metadata": {"labels": {"a": "b"}}}));
    }
}
