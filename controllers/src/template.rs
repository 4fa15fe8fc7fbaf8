//! Pod templates: the pod made from one, whether two are the same, and the hash that names one.

use serde_json::{Map, Value, json};

use crate::names;

/// The label that tells apart the pods of a deployment's replica sets.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// A pod from a template.
pub(crate) fn pod(template: &Value, namespace: &str, name: &str, owner: &Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), name.into());
    metadata.insert("namespace".to_owned(), namespace.into());
    for field in ["labels", "annotations", "finalizers"] {
        match &template["metadata"][field] {
            Value::Null => {}
            value => {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}

/// Whether two templates make the same pods; the hash label does not count.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    canonical(a) == canonical(b)
}

/// A short, stable name of a template; `collisions` makes another one.
pub(crate) fn hash(template: &Value, collisions: i64) -> String {
    let mut text = String::new();
    write(&canonical(template), &mut text);
    let hash = names::hash(&[text.as_bytes(), &collisions.to_be_bytes()]);
    names::encode(u32::try_from(hash & 0xffff_ffff).unwrap_or(0))
}

/// A template's labels.
pub(crate) fn labels(template: &Value) -> crate::view::Map {
    let labels = template["metadata"]["labels"].as_object();
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Sets one label of a template.
pub(crate) fn set_label(template: &mut Value, name: &str, value: &str) {
    if !template["metadata"].is_object() {
        template["metadata"] = json!({});
    }
    if !template["metadata"]["labels"].is_object() {
        template["metadata"]["labels"] = json!({});
    }
    template["metadata"]["labels"][name] = value.into();
}

/// Without the hash label, nulls, and the `creationTimestamp: null` that Go writes.
fn canonical(template: &Value) -> Value {
    let mut copy = template.clone();
    if let Some(labels) = copy["metadata"]["labels"].as_object_mut() {
        labels.shift_remove(HASH_LABEL);
    }
    prune(&mut copy);
    copy
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, v| !v.is_null());
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// JSON with sorted members: the order in which a client wrote them must not name another template.
fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in members {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for value in list {
                write(value, out);
                out.push(',');
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: Value, b: Value, equal: bool) {
        assert_eq!(same(&a, &b), equal);
        assert_eq!(hash(&a, 0) == hash(&b, 0), equal);
    }

    #[test]
    fn templates() {
        check(json!({"spec": {"a": 1, "b": 2}}), json!({"spec": {"b": 2, "a": 1}}), true);
        check(json!({"metadata": {"creationTimestamp": null}, "spec": {}}), json!({"metadata": {}, "spec": {}}), true);
        check(
            json!({"metadata": {"labels": {"a": "b", "pod-template-hash": "x"}}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            true,
        );
        check(json!({"spec": {"image": "a"}}), json!({"spec": {"image": "b"}}), false);
        assert_ne!(hash(&json!({}), 0), hash(&json!({}), 1));
    }
}
