//! Types and fields as OpenAPI schemas.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    Object,
    schema::shape::{self, Field, Shape, Special, Type},
};

const PREFIX: &str = "#/components/schemas/";

/// Where a type's schema stands.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{PREFIX}{name}") })
}

/// Adds a type and all that it refers to.
pub(super) fn collect(name: &'static str, names: &mut BTreeSet<&'static str>) {
    let Some(ty) = shape::lookup(name) else { return };
    if names.insert(ty.name) {
        ty.fields.iter().for_each(|field| collect_shape(&field.shape, names));
    }
}

fn collect_shape(shape: &Shape, names: &mut BTreeSet<&'static str>) {
    match shape {
        Shape::Ref(id) => collect(shape::get(*id).name, names),
        Shape::Array(inner) | Shape::Map(inner) => collect_shape(inner, names),
        _ => {}
    }
}

/// The schema of a type.
pub(super) fn schema(ty: &Type) -> Value {
    match ty.special {
        Special::None => {}
        Special::Time | Special::MicroTime => return json!({ "type": "string", "format": "date-time" }),
        Special::Quantity => return json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Special::IntOrString => {
            return json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] });
        }
        Special::RawExtension | Special::FieldsV1 => return json!({ "type": "object" }),
        Special::Json => return json!({}),
    }
    let mut out = Object::new();
    out.insert("type".into(), json!("object"));
    let required: Vec<&str> = ty.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    if !required.is_empty() {
        out.insert("required".into(), json!(required));
    }
    let properties: Object = ty.fields.iter().map(|field| (field.name.to_owned(), property(field))).collect();
    if !properties.is_empty() {
        out.insert("properties".into(), Value::Object(properties));
    }
    if !ty.gvk.is_empty() {
        let gvk =
            |(group, version, kind): &(&str, &str, &str)| json!({ "group": group, "kind": kind, "version": version });
        out.insert("x-kubernetes-group-version-kind".into(), ty.gvk.iter().map(gvk).collect());
    }
    if ty.atomic {
        out.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    Value::Object(out)
}

fn property(field: &Field) -> Value {
    let mut value = of_shape(&field.shape);
    if let Some(default) = &field.default {
        if value.get("$ref").is_some() {
            value = json!({ "allOf": [value] }); // A reference stands alone in OpenAPI 3.0.
        }
        value["default"] = default.clone();
    }
    if let Some(kind) = field.list_type.as_str() {
        value["x-kubernetes-list-type"] = json!(kind);
    }
    if !field.list_map_keys.is_empty() {
        value["x-kubernetes-list-map-keys"] = json!(field.list_map_keys);
    }
    for (key, text) in
        [("x-kubernetes-patch-strategy", field.patch_strategy), ("x-kubernetes-patch-merge-key", field.patch_merge_key)]
    {
        if !text.is_empty() {
            value[key] = json!(text);
        }
    }
    if field.atomic_map {
        value["x-kubernetes-map-type"] = json!("atomic");
    }
    value
}

fn of_shape(shape: &Shape) -> Value {
    match shape {
        Shape::String => json!({ "type": "string" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
        Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
        Shape::Number => json!({ "type": "number", "format": "double" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Ref(id) => reference(shape::get(*id).name),
        Shape::Array(items) => json!({ "type": "array", "items": of_shape(items) }),
        Shape::Map(values) => json!({ "type": "object", "additionalProperties": of_shape(values) }),
        Shape::Any => json!({}),
    }
}
