//! The type table: the fields of every type that the API's objects are made of.
//!
//! Parsed once from `schema/types.jsonl`. Decoding, strategic merge, protobuf and OpenAPI all walk it; there are no structs
//! per kind. What the table does not say (descriptions, enums, real defaults) is not here either.

use std::{collections::HashMap, sync::OnceLock};

use serde_json::Value;

use super::zero;

/// Index of a type in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

/// What a value looks like in JSON.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the variants are JSON's own words")]
pub enum Shape {
    String,
    /// base64 text.
    Bytes,
    Int32,
    Int64,
    Number,
    Bool,
    /// Another type of the table.
    Ref(TypeId),
    Array(Box<Shape>),
    Map(Box<Shape>),
    /// Anything: FieldsV1, JSON.
    Any,
}

/// What kind of thing a type is: an object with fields, or one of the wrapper types with a JSON form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the types' own names")]
pub enum Special {
    None,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    /// `JSON`, `JSONSchemaPropsOrBool` and their like: any JSON value.
    Json,
}

/// How server-side apply and validation see a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the variants are the extension's own words")]
pub enum ListType {
    #[default]
    Unset,
    Atomic,
    Set,
    Map,
}

impl ListType {
    /// Value of `x-kubernetes-list-type`.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            ListType::Unset => None,
            ListType::Atomic => Some("atomic"),
            ListType::Set => Some("set"),
            ListType::Map => Some("map"),
        }
    }
}

/// A field of a type.
#[derive(Debug, Clone)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Server-side apply's view of a list.
    pub list_type: ListType,
    /// Keys of an associative list.
    pub list_map_keys: Vec<&'static str>,
    /// `merge`, `merge,retainKeys`, `retainKeys` or empty.
    pub patch_strategy: &'static str,
    /// Key by which strategic merge matches list items; empty where items are matched whole.
    pub patch_merge_key: &'static str,
    /// Whether a map is replaced as a whole by server-side apply.
    pub atomic_map: bool,
    /// The published default; never a Go zero value.
    pub default: Option<Value>,
    /// Whether the reference encoder always writes the field (it is not `omitempty`).
    pub always: bool,
    /// Whether the field must be there.
    pub required: bool,
    /// Whether a zero value (`0`, `false`, `""`) is an answer; else it is the same as nothing and left out.
    pub keeps_zero: bool,
}

/// A type.
#[derive(Debug, Clone)]
pub struct Type {
    /// `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// Fields, sorted by name.
    pub fields: Vec<Field>,
    /// Group, version and kind of each form it is served as.
    pub gvk: Vec<(&'static str, &'static str, &'static str)>,
    /// A wrapper type with a JSON form of its own.
    pub special: Special,
    /// Whether server-side apply replaces it as a whole.
    pub atomic: bool,
}

impl Type {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &self.fields[i])
    }

    /// Last part of the name: `Pod`. It is the Go struct's name in decoding errors.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// `v1.Pod`, as Go prints the type.
    pub fn go_name(&self) -> String {
        let mut parts = self.name.rsplitn(3, '.');
        let (kind, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        format!("{version}.{kind}")
    }
}

/// A type by its id.
pub fn get(id: TypeId) -> &'static Type {
    &table().types[usize::from(id.0)]
}

/// A type by its name.
pub fn lookup(name: &str) -> Option<&'static Type> {
    table().by_name.get(name).map(|id| get(*id))
}

/// The id of a type's name.
pub fn id(name: &str) -> Option<TypeId> {
    table().by_name.get(name).copied()
}

/// The type of a kind, also of kinds that are no resource (DeleteOptions, Scale, Eviction).
pub fn type_of_kind(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    table().by_gvk.get(&(group, version, kind)).map(|id| get(*id))
}

/// The first type that has this kind, whichever its version: for kinds that are no resource and come without an apiVersion.
pub fn type_by_kind(kind: &str) -> Option<&'static Type> {
    all().iter().find(|ty| ty.gvk.iter().any(|(_, _, k)| *k == kind))
}

/// All types, sorted by name.
pub fn all() -> &'static [Type] {
    &table().types
}

struct Table {
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeId>,
    by_gvk: HashMap<(&'static str, &'static str, &'static str), TypeId>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines: Vec<Line> = include_str!("../../schema/types.jsonl").lines().map(parse_line).collect();
        let number = |i: usize| TypeId(u16::try_from(i).expect("schema/types.jsonl has fewer than 65536 types"));
        let by_name: HashMap<&'static str, TypeId> =
            lines.iter().enumerate().map(|(i, t)| (t.name, number(i))).collect();
        let types: Vec<Type> = lines.iter().map(|line| build_type(line, &by_name)).collect();
        let mut by_gvk = HashMap::new();
        for (i, ty) in types.iter().enumerate() {
            for gvk in &ty.gvk {
                by_gvk.insert(*gvk, number(i));
            }
        }
        Table { types, by_name, by_gvk }
    })
}

#[derive(serde::Deserialize)]
struct Line {
    name: &'static str,
    #[serde(default)]
    required: Vec<&'static str>,
    #[serde(default)]
    gvk: Vec<(&'static str, &'static str, &'static str)>,
    #[serde(rename = "mapType")]
    map_type: Option<&'static str>,
    #[serde(default)]
    fields: std::collections::BTreeMap<&'static str, LineField>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineField {
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    format: Option<&'static str>,
    #[serde(rename = "ref")]
    reference: Option<&'static str>,
    items: Option<Box<LineField>>,
    values: Option<Box<LineField>>,
    list_type: Option<&'static str>,
    #[serde(default)]
    list_map_keys: Vec<&'static str>,
    #[serde(default)]
    patch_strategy: &'static str,
    #[serde(default)]
    patch_merge_key: &'static str,
    map_type: Option<&'static str>,
    default: Option<Value>,
    go_zero: Option<Value>,
}

fn parse_line(line: &'static str) -> Line {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("schema/types.jsonl: {e}: {line}"))
}

fn build_type(line: &Line, ids: &HashMap<&'static str, TypeId>) -> Type {
    let fields = line.fields.iter().map(|(name, field)| build_field(line, name, field, ids)).collect();
    Type {
        name: line.name,
        fields,
        gvk: line.gvk.clone(),
        special: special_of(line.name),
        atomic: line.map_type == Some("atomic"),
    }
}

fn build_field(line: &Line, name: &'static str, field: &LineField, ids: &HashMap<&'static str, TypeId>) -> Field {
    let required = line.required.contains(&name);
    let shape = build_shape(field, ids);
    let always = field.go_zero.is_some() || (required && field.items.is_some());
    let list_type = match field.list_type {
        Some("atomic") => ListType::Atomic,
        Some("set") => ListType::Set,
        Some("map") => ListType::Map,
        _ => ListType::Unset,
    };
    Field {
        name,
        keeps_zero: always || zero::keeps_zero(line.name, name, &shape),
        shape,
        list_type,
        list_map_keys: field.list_map_keys.clone(),
        patch_strategy: field.patch_strategy,
        patch_merge_key: field.patch_merge_key,
        atomic_map: field.map_type == Some("atomic"),
        default: field.default.clone(),
        always,
        required,
    }
}

fn build_shape(field: &LineField, ids: &HashMap<&'static str, TypeId>) -> Shape {
    if let Some(name) = field.reference {
        return ids.get(name).map_or(Shape::Any, |id| Shape::Ref(*id));
    }
    match (field.kind, field.format) {
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), _) => Shape::String,
        (Some("integer"), Some("int32")) => Shape::Int32,
        (Some("integer"), _) => Shape::Int64,
        (Some("number"), _) => Shape::Number,
        (Some("boolean"), _) => Shape::Bool,
        (Some("array"), _) => {
            Shape::Array(Box::new(field.items.as_deref().map_or(Shape::Any, |i| build_shape(i, ids))))
        }
        (Some("object"), _) if field.values.is_some() => {
            Shape::Map(Box::new(field.values.as_deref().map_or(Shape::Any, |v| build_shape(v, ids))))
        }
        _ => Shape::Any,
    }
}

fn special_of(name: &str) -> Special {
    match name.strip_prefix("io.k8s.").unwrap_or(name) {
        "apimachinery.pkg.apis.meta.v1.Time" => Special::Time,
        "apimachinery.pkg.apis.meta.v1.MicroTime" => Special::MicroTime,
        "apimachinery.pkg.api.resource.Quantity" => Special::Quantity,
        "apimachinery.pkg.util.intstr.IntOrString" => Special::IntOrString,
        "apimachinery.pkg.runtime.RawExtension" => Special::RawExtension,
        "apimachinery.pkg.apis.meta.v1.FieldsV1" => Special::FieldsV1,
        "apimachinery.pkg.apis.meta.v1.Patch"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        | "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => Special::Json,
        _ => Special::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_carry_their_merge_keys() {
        let spec = lookup("io.k8s.api.core.v1.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!((containers.patch_strategy, containers.patch_merge_key), ("merge", "name"));
        assert!(containers.required && matches!(containers.shape, Shape::Array(_)));
        assert!(spec.field("nothing").is_none());
        assert_eq!(spec.go_name(), "v1.PodSpec");
    }

    #[test]
    fn kinds_that_are_no_resource_have_types() {
        assert!(type_of_kind("autoscaling", "v1", "Scale").is_some());
        assert!(type_of_kind("policy", "v1", "Eviction").is_some());
        assert!(type_of_kind("authentication.k8s.io", "v1", "TokenRequest").is_some());
    }
}
