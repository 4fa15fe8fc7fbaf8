//! Kubernetes' strategic merge patch: a merge patch that knows which lists are keyed.
//!
//! The merge keys and strategies come from the type table. Directives: `$patch` (replace, delete, merge), `$retainKeys`,
//! `$deleteFromPrimitiveList/x`, `$setElementOrder/x`. Order is kept as upstream keeps it: items named by the patch stand
//! in the patch's order, the others keep their place relative to the original.

mod order;

use serde_json::Value;

use crate::{
    Object,
    schema::shape::{self, Field, Shape, Type},
    status::Status,
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// The document, an object of the named type, with the strategic merge patch applied.
pub fn strategic(type_name: &str, doc: &Value, patch: &Value) -> Result<Value, Status> {
    let (Value::Object(doc), Value::Object(patch)) = (doc, patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let schema = shape::lookup(type_name).map_or(Schema::Unknown, Schema::Type);
    merge_map(doc.clone(), patch.clone(), schema).map(Value::Object)
}

/// What is known of the value being merged.
#[derive(Clone, Copy)]
enum Schema {
    Type(&'static Type),
    /// A map whose values have this shape.
    Values(&'static Shape),
    Unknown,
}

impl Schema {
    fn of(shape: &'static Shape) -> Schema {
        match shape {
            Shape::Ref(id) => Schema::Type(shape::get(*id)),
            Shape::Map(values) => Schema::Values(values),
            _ => Schema::Unknown,
        }
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Schema::Type(ty) => ty.field(name),
            _ => None,
        }
    }

    /// Schema of a field's value, or of a list field's items.
    fn child(self, name: &str) -> Schema {
        let shape = match self {
            Schema::Type(ty) => ty.field(name).map(|f| &f.shape),
            Schema::Values(values) => Some(values),
            Schema::Unknown => None,
        };
        match shape {
            Some(Shape::Array(items)) => Schema::of(items),
            Some(shape) => Schema::of(shape),
            None => Schema::Unknown,
        }
    }
}

fn merge_map(mut original: Object, mut patch: Object, schema: Schema) -> Result<Object, Status> {
    if let Some(directive) = patch.shift_remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            Some("merge") => merge_map(original, patch, schema),
            _ => Err(unknown_directive(&directive)),
        };
    }
    if let Some(keys) = patch.shift_remove(RETAIN_KEYS) {
        retain_keys(&mut original, &patch, &keys)?;
    }
    apply_orders(&mut original, &mut patch, schema)?;
    for (key, change) in patch {
        merge_field(&mut original, &key, change, schema)?;
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: &str, change: Value, schema: Schema) -> Result<(), Status> {
    if let Some(name) = key.strip_prefix(DELETE_FROM) {
        return delete_from_list(original, name, &change);
    }
    if change.is_null() {
        original.shift_remove(key);
        return Ok(());
    }
    let strategy = schema.field(key).map_or("", |f| f.patch_strategy);
    let merged = match (original.get_mut(key).map(Value::take), change) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            if has(strategy, "replace") {
                Value::Object(new)
            } else {
                Value::Object(merge_map(old, new, schema.child(key))?)
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            if has(strategy, "merge") {
                let merge_key = schema.field(key).map_or("", |f| f.patch_merge_key);
                Value::Array(merge_list(&old, new, schema.child(key), merge_key)?)
            } else {
                Value::Array(new)
            }
        }
        (_, change) => drop_directives(change)?,
    };
    original.insert(key.to_owned(), merged);
    Ok(())
}

fn has(strategies: &str, name: &str) -> bool {
    strategies.split(',').any(|s| s == name)
}

/// Keeps only the listed keys of the original; the patch may set no other.
fn retain_keys(original: &mut Object, patch: &Object, keys: &Value) -> Result<(), Status> {
    let keys = keys.as_array().ok_or_else(|| Status::bad_request("invalid patch format of retainKeys"))?;
    let listed = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let plain = |key: &str| !key.starts_with('$');
    if let Some((key, _)) = patch.iter().find(|(k, v)| plain(k) && !v.is_null() && !listed(k)) {
        let text = format!("patch content doesn't match retainKeys list: {key}");
        return Err(Status::unprocessable(text));
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

fn delete_from_list(original: &mut Object, name: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone.as_array().ok_or_else(|| Status::bad_request("invalid patch format of primitive list"))?;
    if let Some(Value::Array(items)) = original.get_mut(name) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Carries out the `$setElementOrder/x` directives, together with the lists that they are about.
fn apply_orders(original: &mut Object, patch: &mut Object, schema: Schema) -> Result<(), Status> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let wanted = patch.shift_remove(&directive);
        let Some(Value::Array(wanted)) = wanted else {
            return Err(Status::bad_request("invalid patch format of setElementOrder list"));
        };
        let name = &directive[SET_ORDER.len()..];
        let field = schema.field(name);
        let merge_key = field.map_or("", |f| f.patch_merge_key);
        let old = match original.get(name) {
            Some(Value::Array(old)) => Some(old.clone()),
            _ => None,
        };
        let new = match patch.shift_remove(name) {
            Some(Value::Array(new)) => Some(new),
            Some(other) => {
                patch.insert(name.to_owned(), other);
                continue;
            }
            None => None,
        };
        let merged = match (&old, new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => merge_list(&[], new, schema.child(name), merge_key)?,
            (Some(_), Some(new)) if !has(field.map_or("", |f| f.patch_strategy), "merge") => new,
            (Some(old), Some(new)) => merge_list(old, new, schema.child(name), merge_key)?,
        };
        // What `$deleteFromPrimitiveList` names goes before the order is made.
        let sorted = order::arrange(merged, &wanted, &old.unwrap_or_default(), merge_key);
        original.insert(name.to_owned(), Value::Array(sorted));
    }
    Ok(())
}

fn merge_list(original: &[Value], patch: Vec<Value>, schema: Schema, key: &str) -> Result<Vec<Value>, Status> {
    let objects = original.iter().chain(&patch).any(Value::is_object);
    if !objects {
        return Ok(merge_scalars(original, &patch));
    }
    if key.is_empty() {
        return Err(failed("cannot merge lists of objects without a merge key"));
    }
    let Some((mut kept, changes)) = apply_item_directives(original, patch.clone(), key)? else {
        return Ok(patch.into_iter().filter(|item| item.get(PATCH).is_none()).collect());
    };
    for change in changes {
        let Some(id) = change.get(key).filter(|_| change.is_object()) else {
            return Err(failed(&format!("map: {change} does not contain declared merge key: {key}")));
        };
        let found = kept.iter().position(|item| item.get(key) == Some(id));
        match (found, change) {
            (Some(at), Value::Object(change)) => {
                let old = kept[at].as_object().cloned().unwrap_or_default();
                kept[at] = Value::Object(merge_map(old, change, schema)?);
            }
            (_, change) => kept.push(drop_directives(change)?),
        }
    }
    Ok(order::arrange(kept, &patch, original, key))
}

fn merge_scalars(original: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for item in original.iter().chain(patch) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    order::arrange(merged, patch, original, "")
}

/// Carries out `$patch` in list items: the original without what is deleted, and the plain items of the patch.
/// `None` if the whole list is to be replaced.
#[expect(clippy::type_complexity, reason = "the two halves of one list")]
fn apply_item_directives(
    original: &[Value],
    patch: Vec<Value>,
    key: &str,
) -> Result<Option<(Vec<Value>, Vec<Value>)>, Status> {
    let mut kept = original.to_vec();
    let mut plain = Vec::new();
    for item in patch {
        match item.get(PATCH).map(|d| d.as_str().unwrap_or("")) {
            None => plain.push(item),
            Some("delete") => {
                let id = item
                    .get(key)
                    .ok_or_else(|| failed(&format!("delete patch type with no merge key defined: {item}")))?;
                kept.retain(|old| old.get(key) != Some(id));
            }
            Some("replace") => return Ok(None),
            Some("merge") => return Err(failed("merging lists cannot yet be specified in the patch")),
            Some(_) => return Err(unknown_directive(&item[PATCH])),
        }
    }
    Ok(Some((kept, plain)))
}

/// A value that is new as a whole: without its nulls and its directives.
fn drop_directives(value: Value) -> Result<Value, Status> {
    Ok(match value {
        Value::Object(map) => {
            let mut out = Object::new();
            for (key, value) in map {
                if !value.is_null()
                    && !key.starts_with(SET_ORDER)
                    && !key.starts_with(DELETE_FROM)
                    && key != RETAIN_KEYS
                    && key != PATCH
                {
                    out.insert(key, drop_directives(value)?);
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let deleted = |item: &Value| item.get(PATCH).and_then(Value::as_str) == Some("delete");
            let replaces = |item: &Value| item.get(PATCH).is_some() && item.as_object().is_some_and(|o| o.len() == 1);
            let kept = items.into_iter().filter(|item| !deleted(item) && !replaces(item));
            Value::Array(kept.map(drop_directives).collect::<Result<_, _>>()?)
        }
        other => other,
    })
}

fn unknown_directive(directive: &Value) -> Status {
    failed(&format!("unknown patch type found: {directive}"))
}

fn failed(text: &str) -> Status {
    Status::bad_request(text)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests;
