//! RFC 7386: an object is merged key by key, null deletes, everything else replaces.

use serde_json::Value;

use crate::Object;

/// The document with the merge patch applied.
pub fn merge(doc: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut out = doc.as_object().cloned().unwrap_or_else(Object::new);
    for (key, change) in patch {
        if change.is_null() {
            out.shift_remove(key);
        } else {
            let merged = merge(out.get(key).unwrap_or(&Value::Null), change);
            out.insert(key.clone(), merged);
        }
    }
    Value::Object(out)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(doc: Value, patch: Value, expected: Value) {
        assert_eq!(merge(&doc, &patch), expected);
    }

    #[test]
    fn rfc_7386_appendix_a() {
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }
}
