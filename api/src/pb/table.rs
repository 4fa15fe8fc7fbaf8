//! The message table: number, JSON name and type of every field, from `schema/protobuf-fields.tsv`.
//!
//! JSON names are the protobuf names, but for what the type table says otherwise: a message whose fields stand in its
//! parent's JSON is inlined, and a few names differ in case or are spelt as extensions (`x-kubernetes-…`).

use std::{collections::HashMap, sync::OnceLock};

use super::special::Wrapper;
use crate::schema::shape::{self, Type};

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: Vec<PbField>,
    pub(super) wrapper: Wrapper,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct PbField {
    pub(super) number: u32,
    /// JSON name; empty if the message's own fields stand in its place.
    pub(super) name: &'static str,
    pub(super) label: Label,
    pub(super) kind: Kind,
}

/// How often a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    One,
    Repeated,
    /// A map with string keys; the kind is the values'.
    Map,
}

/// Type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bytes,
    Int,
    Bool,
    Double,
    /// Index of a message.
    Message(usize),
}

impl Message {
    /// The field of this number.
    pub(super) fn field(&self, number: u32) -> Option<&PbField> {
        self.fields.binary_search_by_key(&number, |f| f.number).ok().map(|i| &self.fields[i])
    }
}

impl PbField {
    /// Whether the message's own fields stand in its place.
    pub(super) fn inlined(&self) -> bool {
        self.name.is_empty()
    }
}

/// A message by its index.
pub(super) fn get(index: usize) -> &'static Message {
    &table().messages[index]
}

/// The message of a type of the type table.
pub(super) fn of_type(type_name: &str) -> Option<&'static Message> {
    let name = type_name.strip_prefix("io.k8s.")?.replace('-', "_");
    table().by_name.get(name.as_str()).map(|i| get(*i))
}

struct Table {
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
}

type Line = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut names: Vec<String> = Vec::new();
        let mut lines: Vec<Vec<Line>> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for line in include_str!("../../schema/protobuf-fields.tsv").lines().skip(1) {
            let columns: Vec<&'static str> = line.split('\t').collect();
            let [package, message, number, field, label, kind] = columns[..] else {
                panic!("schema/protobuf-fields.tsv: six columns: {line}");
            };
            let name = format!("{package}.{message}");
            let index = *by_name.entry(name.clone()).or_insert_with(|| {
                names.push(name);
                lines.push(Vec::new());
                names.len() - 1
            });
            lines[index].push((package, message, number, field, label, kind));
        }
        let messages = lines.iter().zip(&names).map(|(lines, name)| build(name, lines, &by_name)).collect();
        Table { messages, by_name }
    })
}

fn build(name: &str, lines: &[Line], by_name: &HashMap<String, usize>) -> Message {
    let ty = shape::lookup(&format!("io.k8s.{}", name.replace('_', "-")));
    let mut fields: Vec<PbField> = lines.iter().filter_map(|line| build_field(line, ty, by_name)).collect();
    fields.sort_by_key(|f| f.number);
    Message { fields, wrapper: Wrapper::of(name) }
}

/// `None` for a field of a type that is not in the table: nothing that we serve.
fn build_field(line: &Line, ty: Option<&'static Type>, by_name: &HashMap<String, usize>) -> Option<PbField> {
    let (package, _, number, field, label, kind) = *line;
    let label = match label {
        "repeated" => Label::Repeated,
        "map" => Label::Map,
        _ => Label::One,
    };
    let kind = if label == Label::Map { kind.split_once(',')?.1 } else { kind };
    let kind = match kind {
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "int32" | "int64" => Kind::Int,
        "bool" => Kind::Bool,
        "double" => Kind::Double,
        message => {
            let full = message.strip_prefix('.').map_or_else(|| format!("{package}.{message}"), str::to_owned);
            Kind::Message(*by_name.get(&full)?)
        }
    };
    let name = json_name(field, ty, matches!(kind, Kind::Message(_)));
    Some(PbField { number: number.parse().ok()?, name, label, kind })
}

fn json_name(field: &'static str, ty: Option<&'static Type>, message: bool) -> &'static str {
    let Some(ty) = ty.filter(|ty| !ty.fields.is_empty()) else {
        return field;
    };
    if let Some(found) = ty.field(field) {
        return found.name;
    }
    let spelt = |json: &str| {
        let plain: String = json.chars().filter(|c| !matches!(c, '-' | '$')).collect();
        plain.eq_ignore_ascii_case(field)
    };
    match ty.fields.iter().find(|f| spelt(f.name)) {
        Some(found) => found.name,
        None if message => "",
        None => field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(type_name: &str, number: u32, name: &str) {
        let message = of_type(type_name).unwrap();
        assert_eq!(message.field(number).map(|f| f.name), Some(name));
    }

    #[test]
    fn names_are_jsons() {
        check("io.k8s.api.core.v1.Pod", 1, "metadata");
        check("io.k8s.api.core.v1.Volume", 2, "");
        check("io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", 2, "webhooks");
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        check(props, 2, "$schema");
        check(props, 38, "x-kubernetes-preserve-unknown-fields");
    }
}
