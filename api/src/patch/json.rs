//! RFC 6902: a list of operations on RFC 6901 pointers, all or nothing.
//!
//! A patch that is no list of operations is a 400; one that does not fit the document is a 422, as upstream has it.

use serde_json::Value;

use crate::status::Status;

/// At most so many operations in one patch, as upstream.
const MAX_OPERATIONS: usize = 10_000;

/// What all copies of one patch may add, as upstream: copies of copies double the document each time.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Deeper than any object; a pointer into more would let a patch nest values without end.
const MAX_DEPTH: usize = 128;

/// The document with the operations applied.
pub fn json(doc: &Value, patch: &Value) -> Result<Value, Status> {
    let operations = patch.as_array().ok_or_else(|| {
        Status::bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    })?;
    if operations.len() > MAX_OPERATIONS {
        let text =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.len());
        return Err(Status::too_large(text));
    }
    let mut out = doc.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut out, operation, &mut copied)?;
    }
    Ok(out)
}

/// Applies one operation; `copied` sums up what copies have added.
fn apply(doc: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), Status> {
    let op = operation["op"].as_str().unwrap_or("");
    let path = operation["path"].as_str().ok_or_else(|| failed(op, "", "missing \"path\""))?;
    if path.split('/').count() > MAX_DEPTH {
        return Err(failed(op, path, "too deep"));
    }
    let value = || operation.get("value").cloned().ok_or_else(|| failed(op, path, "missing \"value\""));
    let from = || operation["from"].as_str().ok_or_else(|| failed(op, path, "missing \"from\""));
    match op {
        "add" => add(doc, path, value()?).map_err(|e| failed(op, path, e)),
        "remove" => remove(doc, path).map(drop).map_err(|e| failed(op, path, e)),
        "replace" => {
            let slot = find(doc, path).ok_or_else(|| failed(op, path, MISSING))?;
            *slot = value()?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(failed(op, path, "cannot move a value into itself"));
            }
            let moved = remove(doc, from).map_err(|e| failed(op, from, e))?;
            add(doc, path, moved).map_err(|e| failed(op, path, e))
        }
        "copy" => {
            let from = from()?;
            let copy = find(doc, from).cloned().ok_or_else(|| failed(op, from, MISSING))?;
            *copied += copy.to_string().len();
            if *copied > MAX_COPIED {
                let text =
                    format!("the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}");
                return Err(Status::too_large(format!("Unable to complete the copy, {text}")));
            }
            add(doc, path, copy).map_err(|e| failed(op, path, e))
        }
        "test" => {
            let want = operation.get("value").unwrap_or(&Value::Null);
            let have = find(doc, path).map_or(&Value::Null, |v| &*v);
            if have == want {
                Ok(())
            } else {
                Err(Status::unprocessable(format!("testing value {path} failed: test failed")))
            }
        }
        _ => Err(Status::bad_request(format!("Unexpected kind: {op}"))),
    }
}

const MISSING: &str = "missing value";

fn failed(op: &str, path: &str, why: &str) -> Status {
    Status::unprocessable(format!("{op} operation does not apply: doc is missing path: {path}: {why}"))
}

/// The value at a pointer.
fn find<'a>(doc: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    doc.pointer_mut(path)
}

/// Splits a pointer into its parent and its last, unescaped token; `None` for the whole document.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(doc: &mut Value, path: &str, value: Value) -> Result<(), &'static str> {
    let Some((parent, key)) = split(path) else {
        *doc = value;
        return Ok(());
    };
    match find(doc, parent).ok_or(MISSING)? {
        Value::Object(map) => {
            map.insert(key, value);
        }
        Value::Array(items) => {
            let at = if key == "-" { items.len() } else { index(&key, items.len() + 1)? };
            items.insert(at, value);
        }
        _ => return Err("not a container"),
    }
    Ok(())
}

fn remove(doc: &mut Value, path: &str) -> Result<Value, &'static str> {
    let (parent, key) = split(path).ok_or("cannot remove the whole document")?;
    match find(doc, parent).ok_or(MISSING)? {
        Value::Object(map) => map.shift_remove(&key).ok_or("Unable to remove nonexistent key"),
        Value::Array(items) => {
            let at = index(&key, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err("not a container"),
    }
}

/// An array index below `limit`; leading zeros and signs are refused, as the RFC says.
fn index(key: &str, limit: usize) -> Result<usize, &'static str> {
    let plain = key == "0" || (!key.starts_with('0') && key.bytes().all(|b| b.is_ascii_digit()));
    let at: usize = key.parse().ok().filter(|_| plain).ok_or("invalid array index")?;
    if at < limit { Ok(at) } else { Err("index out of bounds") }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use serde_json::json as j;

    use super::*;

    #[track_caller]
    fn check(doc: Value, patch: Value, expected: Value) {
        assert_eq!(json(&doc, &patch).unwrap(), expected);
    }

    #[track_caller]
    fn refused(doc: Value, patch: Value, code: u16) {
        assert_eq!(json(&doc, &patch).unwrap_err().code, code);
    }

    #[test]
    fn operations() {
        check(j!({"a": 1}), j!([{"op": "add", "path": "/b", "value": 2}]), j!({"a": 1, "b": 2}));
        check(j!({"a": [1, 3]}), j!([{"op": "add", "path": "/a/1", "value": 2}]), j!({"a": [1, 2, 3]}));
        check(j!({"a": [1]}), j!([{"op": "add", "path": "/a/-", "value": 2}]), j!({"a": [1, 2]}));
        check(j!({"a": 1, "b": 2}), j!([{"op": "remove", "path": "/a"}]), j!({"b": 2}));
        check(j!({"a/b": 1}), j!([{"op": "replace", "path": "/a~1b", "value": 2}]), j!({"a/b": 2}));
        check(j!({"a": 1}), j!([{"op": "move", "from": "/a", "path": "/b"}]), j!({"b": 1}));
        check(j!({"a": [1]}), j!([{"op": "copy", "from": "/a", "path": "/b"}]), j!({"a": [1], "b": [1]}));
        check(j!({"a": 1}), j!([{"op": "test", "path": "/a", "value": 1}]), j!({"a": 1}));
        check(j!({}), j!([{"op": "test", "path": "/a", "value": null}]), j!({}));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        refused(j!({}), j!([{"op": "remove", "path": "/a"}]), 422);
        refused(j!({}), j!([{"op": "replace", "path": "/a", "value": 1}]), 422);
        refused(j!({}), j!([{"op": "add", "path": "/a/b", "value": 1}]), 422);
        refused(j!({"a": [1]}), j!([{"op": "add", "path": "/a/5", "value": 1}]), 422);
        refused(j!({"a": [1]}), j!([{"op": "remove", "path": "/a/01"}]), 422);
        refused(j!({"a": 1}), j!([{"op": "test", "path": "/a", "value": 2}]), 422);
        let bomb: Vec<Value> = (0..40).map(|i| j!({"op": "copy", "from": "", "path": format!("/{i}")})).collect();
        refused(j!({"a": "some text"}), Value::Array(bomb), 413);
        refused(j!({}), j!([{"op": "add", "path": "/a".repeat(200), "value": 1}]), 422);
        refused(j!({}), j!({"a": 1}), 400);
        refused(j!({}), j!([{"op": "jump", "path": "/a"}]), 400);
    }
}
