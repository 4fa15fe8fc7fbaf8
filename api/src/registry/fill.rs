//! Filling in what is unset, and the defaults that the type table itself has.

use serde_json::Value;

use crate::{
    Object, path,
    schema::shape::{self, Shape, Special, Type},
};

/// Sets a field that is absent, null or empty text.
pub(super) fn set(map: &mut Object, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(|v| v.is_null() || v == "") {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a field that is a plain number in Go: zero is unset too.
pub(super) fn set_number(map: &mut Object, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(path::is_zero) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The objects of a list field.
pub(super) fn items<'a>(map: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// An object field that is there.
pub(super) fn child<'a>(map: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    map.get_mut(key).and_then(Value::as_object_mut)
}

/// Fills in the published defaults of all types within a value.
pub(super) fn from_table(value: &mut Value, ty: &'static Type) {
    let Some(map) = value.as_object_mut() else { return };
    for field in &ty.fields {
        if let Some(default) = &field.default {
            set(map, field.name, default.clone());
        }
        if let Some(value) = map.get_mut(field.name) {
            within(value, &field.shape);
        }
    }
}

fn within(value: &mut Value, shape: &'static Shape) {
    match (shape, value) {
        (Shape::Ref(id), value) if shape::get(*id).special == Special::None => from_table(value, shape::get(*id)),
        (Shape::Array(items), Value::Array(list)) => list.iter_mut().for_each(|item| within(item, items)),
        (Shape::Map(values), Value::Object(map)) => map.values_mut().for_each(|value| within(value, values)),
        _ => {}
    }
}
