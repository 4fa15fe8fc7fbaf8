//! `/openapi/v2`: the little that kubectl before 1.29 must find there, in JSON and in gnostic's protobuf.
//!
//! Those ask, before they send anything, whether PATCH of a kind takes `fieldValidation` and `dryRun`; without an answer
//! they refuse to work. There are no definitions here: the schemas are in `/openapi/v3`. Pure; field numbers are those of
//! gnostic's `openapiv2/OpenAPIv2.proto`.
use std::sync::LazyLock;

use api::schema::{Row, Verb};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// How clients ask for the protobuf form.
pub(super) const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What upstream answers to that: `@` cannot stand in a media type.
pub(super) const PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const PARAMETERS: [&str; 4] = ["pretty", "dryRun", "fieldManager", "fieldValidation"];
const KIND: &str = "x-kubernetes-group-version-kind";

/// The document in JSON.
pub(super) fn json() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let paths: Map<String, Value> = patchable().map(|row| (path(row), json!({"patch": operation(row)}))).collect();
        let info = json!({"title": "Kubernetes", "version": super::path::GIT_VERSION});
        json!({"swagger": "2.0", "info": info, "paths": paths, "definitions": {}}).to_string().into()
    });
    DOCUMENT.clone()
}

/// The document in protobuf.
pub(super) fn protobuf() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let info = [text(1, "Kubernetes"), text(2, super::path::GIT_VERSION)].concat();
        let paths: Vec<u8> =
            patchable().flat_map(|row| field(2, &named(&path(row), &field(8, &encode(row))))).collect();
        [text(1, "2.0"), field(2, &info), field(8, &paths)].concat().into()
    });
    DOCUMENT.clone()
}

fn patchable() -> impl Iterator<Item = &'static Row> {
    api::schema::rows().iter().filter(|row| row.served && row.verbs.has(Verb::Patch))
}

fn path(row: &Row) -> String {
    let prefix = if row.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", row.group) };
    let namespace = if row.namespaced() { "/namespaces/{namespace}" } else { "" };
    format!("{prefix}/{}{namespace}/{}/{{name}}", row.version, row.resource)
}

fn kind(row: &Row) -> Value {
    json!({"group": row.group, "kind": row.kind, "version": row.version})
}

fn operation(row: &Row) -> Value {
    let parameters: Vec<Value> = PARAMETERS
        .iter()
        .map(|name| json!({"name": name, "in": "query", "type": "string", "uniqueItems": true}))
        .collect();
    json!({"parameters": parameters, "responses": {"200": {"description": "OK"}}, KIND: kind(row)})
}

/// `Operation`: 8 parameters, 13 vendor extensions.
fn encode(row: &Row) -> Vec<u8> {
    let parameter = |name: &&str| {
        let query = [text(2, "query"), text(4, name), text(6, "string")].concat();
        field(8, &field(1, &field(2, &field(3, &query)))) // ParametersItem, Parameter, NonBodyParameter, Query….
    };
    let extension = field(13, &named(KIND, &text(2, &kind(row).to_string()))); // Any: 2 yaml.
    PARAMETERS.iter().flat_map(parameter).chain(extension).collect()
}

/// The shape of every `Named…`: 1 name, 2 value.
fn named(name: &str, value: &[u8]) -> Vec<u8> {
    [text(1, name), field(2, value)].concat()
}

fn text(number: u8, text: &str) -> Vec<u8> {
    field(number, text.as_bytes())
}

/// A length-delimited field; all numbers here are below 16.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("less than 0x80"));
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{field, json, protobuf};

    #[test]
    fn lengths_are_varints() {
        assert_eq!(field(2, b"ab"), [0x12, 2, b'a', b'b']);
        assert_eq!(field(1, &[0; 300])[..3], [0x0a, 0xac, 2]);
    }

    #[test]
    fn every_patchable_kind_is_named() {
        let document: Value = serde_json::from_slice(&json()).expect("JSON");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let kind = br#"{"group":"apps","kind":"Deployment","version":"v1"}"#;
        assert!(protobuf().windows(kind.len()).any(|window| window == kind));
    }
}
