//! Stored bytes → what a reader gets: the one step between the store and every reader.
//!
//! Stored bytes open with `{"apiVersion":…,"kind":…,"metadata":{` and carry no resourceVersion: it is spliced in here,
//! without parsing. A list's items carry neither apiVersion nor kind, as upstream's do not. Pure.
use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";

/// The stored form: apiVersion, kind, metadata first, no resourceVersion.
pub fn to_stored(object: &Value) -> Vec<u8> {
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"apiVersion\":");
    write(&mut out, object.get("apiVersion").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"kind\":");
    write(&mut out, object.get("kind").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"metadata\":{");
    let mut first = true;
    for (key, value) in object.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if key != "resourceVersion" && key != "selfLink" {
            member(&mut out, &mut first, key, value);
        }
    }
    out.push(b'}');
    for (key, value) in object {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            member(&mut out, &mut false, key, value);
        }
    }
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, first: &mut bool, key: &str, value: &Value) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key).expect("a string is JSON and a Vec takes every write");
    out.push(b':');
    write(out, value);
}

fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a Value is JSON and a Vec takes every write");
}

/// The object alone, in the version it is stored in.
pub fn object(stored: &[u8], revision: u64) -> Vec<u8> {
    let inside = metadata_start(stored);
    let mut out = Vec::with_capacity(stored.len() + 48);
    out.extend_from_slice(&stored[..inside]);
    splice(stored, inside, revision, &mut out);
    out
}

/// The object as an item of a list.
pub fn item(stored: &[u8], revision: u64, out: &mut Vec<u8>) {
    let inside = metadata_start(stored);
    out.push(b'{');
    out.extend_from_slice(METADATA);
    splice(stored, inside, revision, out);
}

/// The object, parsed, with its resourceVersion.
pub fn parse(stored: &[u8], revision: u64) -> Value {
    let mut value: Value = serde_json::from_slice(stored).expect("the store holds what `to_stored` wrote");
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    value
}

fn splice(stored: &[u8], inside: usize, revision: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.to_string().as_bytes());
    out.push(b'"');
    if stored[inside] != b'}' {
        out.push(b',');
    }
    out.extend_from_slice(&stored[inside..]);
}

/// Just after `"metadata":{`. Before it stand only apiVersion and kind, which contain no braces.
fn metadata_start(stored: &[u8]) -> usize {
    let found = stored.windows(METADATA.len()).position(|window| window == METADATA);
    found.expect("the store holds what `to_stored` wrote") + METADATA.len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{item, object, parse, to_stored};

    #[track_caller]
    fn check(given: &Value, stored: &str, served: &str, listed: &str) {
        let bytes = to_stored(given);
        assert_eq!(String::from_utf8_lossy(&bytes), stored);
        assert_eq!(String::from_utf8_lossy(&object(&bytes, 7)), served);
        let mut out = Vec::new();
        item(&bytes, 7, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), listed);
        assert_eq!(parse(&bytes, 7), serde_json::from_str::<Value>(served).expect("JSON"));
    }

    #[test]
    fn the_revision_is_spliced_in() {
        check(
            &json!({"metadata": {"name": "a", "resourceVersion": "3"}, "data": {"metadata": {}}, "kind": "ConfigMap", "apiVersion": "v1"}),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"metadata":{}}}"#,
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"7","name":"a"},"data":{"metadata":{}}}"#,
            r#"{"metadata":{"resourceVersion":"7","name":"a"},"data":{"metadata":{}}}"#,
        );
    }

    #[test]
    fn empty_metadata_takes_no_comma() {
        check(
            &json!({"kind": "K", "apiVersion": "v1"}),
            r#"{"apiVersion":"v1","kind":"K","metadata":{}}"#,
            r#"{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"7"}}"#,
            r#"{"metadata":{"resourceVersion":"7"}}"#,
        );
    }
}
