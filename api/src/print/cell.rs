//! Cells that many kinds have: names, ages, labels, selectors, containers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age;
use crate::{Object, path};

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";

/// The object's name.
pub(super) fn name(object: &Value) -> Value {
    json!(path::str(object, "metadata.name"))
}

/// The object's age.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    json!(age::since(path::str(object, "metadata.creationTimestamp"), now))
}

/// The number at a path, or zero.
pub(super) fn number(object: &Value, at: &str) -> Value {
    json!(path::int(object, at).unwrap_or(0))
}

/// The text at a path, or a word for nothing.
pub(super) fn text<'a>(object: &'a Value, at: &str, nothing: &'a str) -> &'a str {
    match path::str(object, at) {
        "" => nothing,
        text => text,
    }
}

/// A number or a text as text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Labels as `a=b,c=d`, sorted; `<none>` for none.
pub(super) fn labels(map: Option<&Object>) -> String {
    let mut pairs: Vec<String> =
        map.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    pairs.sort();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A `metav1.LabelSelector` in its query form; `<none>` for everything.
pub(super) fn selector(value: &Value) -> String {
    let mut terms: Vec<(String, String)> =
        path::strings(value, "matchLabels").map(|(k, v)| (k.to_owned(), format!("{k}={v}"))).collect();
    for expression in path::list(value, "matchExpressions") {
        let key = path::str(expression, "key");
        let mut values: Vec<&str> = path::list(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let term = match path::str(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key.to_owned(), term));
    }
    terms.sort();
    let terms: Vec<String> = terms.into_iter().map(|(_, term)| term).collect();
    if terms.is_empty() { NONE.to_owned() } else { terms.join(",") }
}

/// Names and images of a pod spec's containers.
pub(super) fn containers(spec: &Value) -> [Value; 2] {
    let join = |key: &str| {
        let all: Vec<&str> = path::list(spec, "containers").iter().map(|c| path::str(c, key)).collect();
        json!(all.join(","))
    };
    [join("name"), join("image")]
}

/// The first few of a list, and how many more there are.
pub(super) fn few(list: &[String], max: usize, nothing: &str) -> String {
    match list.len() {
        0 => nothing.to_owned(),
        n if n > max => format!("{} + {} more...", list[..max].join(","), n - max),
        _ => list.join(","),
    }
}

/// How many entries a map has.
pub(super) fn count(object: &Value, at: &str) -> usize {
    path::map(object, at).map_or(0, serde_json::Map::len)
}

/// The status of a condition, if the object has it.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = path::list(object, "status.conditions");
    conditions.iter().find(|c| path::str(c, "type") == kind).map(|c| path::str(c, "status"))
}
