//! Paths and operations: which verbs a path takes, for which kind, with which query parameters and bodies.

use serde_json::{Value, json};

use super::property;
use crate::{
    Object,
    schema::{
        Row, Subresource, Verbs,
        shape::{self, Type},
    },
};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];

/// The types that a row's operations name.
pub(super) fn types_of(row: &Row) -> Vec<&'static str> {
    let mut names = vec![DELETE_OPTIONS, STATUS, PATCH];
    names.extend([row.type_name, list_type(row)].into_iter().filter(|name| !name.is_empty()));
    names.extend(row.subresources.iter().filter_map(|sub| type_of(sub).map(|ty| ty.name)));
    names
}

/// Adds all paths of a row.
pub(super) fn add_paths(row: &Row, paths: &mut Object) {
    let root = if row.group.is_empty() {
        format!("/api/{}", row.version)
    } else {
        format!("/apis/{}/{}", row.group, row.version)
    };
    let (scope, extra): (&str, &[&str]) =
        if row.namespaced() { ("/namespaces/{namespace}", &["namespace"]) } else { ("", &[]) };
    let all = format!("{root}{scope}/{}", row.resource);
    let of = Operation {
        kind: (row.group, row.version, row.kind),
        object: row.type_name,
        list: list_type(row),
        resource: row.resource,
    };
    let collection = of.methods(&[("get", "list"), ("post", "post"), ("delete", "deletecollection")], row.verbs);
    insert(paths, &all, collection, extra);
    if row.namespaced() && row.verbs.contains("list") {
        insert(paths, &format!("{root}/{}", row.resource), of.methods(&[("get", "list")], row.verbs), &[]);
    }
    let one = format!("{all}/{{name}}");
    let named: Vec<&str> = extra.iter().copied().chain(["name"]).collect();
    insert(
        paths,
        &one,
        of.methods(&[("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")], row.verbs),
        &named,
    );
    for sub in &row.subresources {
        let of = Operation {
            kind: (sub.group, sub.version, sub.kind),
            object: type_of(sub).map_or("", |ty| ty.name),
            list: "",
            resource: row.resource,
        };
        let methods = [("get", "get"), ("put", "put"), ("patch", "patch"), ("post", "post"), ("delete", "delete")];
        insert(paths, &format!("{one}/{}", sub.name), of.methods(&methods, sub.verbs), &named);
    }
}

fn insert(paths: &mut Object, path: &str, mut item: Object, parameters: &[&str]) {
    if item.is_empty() {
        return;
    }
    let parameter = |name: &&str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "uniqueItems": true } });
    if !parameters.is_empty() {
        item.insert("parameters".into(), parameters.iter().map(parameter).collect());
    }
    for (method, operation) in &mut item {
        if method != "parameters" {
            operation["operationId"] = json!(format!("{method} {path}"));
        }
    }
    paths.insert(path.to_owned(), Value::Object(item));
}

fn list_type(row: &Row) -> &'static str {
    shape::type_of_kind(row.group, row.version, &row.list_kind()).map_or("", |ty| ty.name)
}

fn type_of(sub: &Subresource) -> Option<&'static Type> {
    shape::type_of_kind(sub.group, sub.version, sub.kind)
}

/// What the operations of a path are about.
struct Operation<'a> {
    kind: (&'a str, &'a str, &'a str),
    object: &'static str,
    list: &'static str,
    resource: &'a str,
}

impl Operation<'_> {
    /// The operations, method by method, of those actions that the verbs allow.
    fn methods(&self, methods: &[(&str, &str)], verbs: Verbs) -> Object {
        let verb = |action: &str| match action {
            "post" => "create".to_owned(),
            "put" => "update".to_owned(),
            other => other.to_owned(),
        };
        let allowed = methods.iter().filter(|(_, action)| verbs.contains(&verb(action)));
        allowed.map(|(method, action)| ((*method).to_owned(), self.operation(action))).collect()
    }

    fn operation(&self, action: &str) -> Value {
        let (group, version, kind) = self.kind;
        let mut out = json!({
            "tags": [self.resource],
            "parameters": parameters(action),
            "responses": self.responses(action),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": { "group": group, "kind": kind, "version": version },
        });
        if let Some(body) = self.body(action) {
            out["requestBody"] = body;
        }
        out
    }

    fn body(&self, action: &str) -> Option<Value> {
        let (name, types, required): (&str, &[&str], bool) = match action {
            "post" | "put" => (self.object, &MEDIA_TYPES, true),
            "patch" => (PATCH, &PATCH_TYPES, true),
            "delete" | "deletecollection" => (DELETE_OPTIONS, &MEDIA_TYPES, false),
            _ => return None,
        };
        let mut body = json!({ "content": content(name, types) });
        if required {
            body["required"] = json!(true);
        }
        Some(body)
    }

    fn responses(&self, action: &str) -> Value {
        let name = match action {
            "list" => self.list,
            "delete" | "deletecollection" => STATUS,
            _ => self.object,
        };
        let reply = |text: &str| json!({ "description": text, "content": content(name, &MEDIA_TYPES) });
        let mut out = json!({ "200": reply("OK"), "401": { "description": "Unauthorized" } });
        if matches!(action, "post" | "put" | "patch") {
            out["201"] = reply("Created");
        }
        out
    }
}

fn content(name: &str, types: &[&str]) -> Value {
    let schema = if name.is_empty() { json!({ "type": "string" }) } else { property::reference(name) };
    types.iter().map(|ty| ((*ty).to_owned(), json!({ "schema": schema }))).collect::<Object>().into()
}

/// The query parameters of an action.
fn parameters(action: &str) -> Value {
    const LIST: &[(&str, &str)] = &[
        ("allowWatchBookmarks", "boolean"),
        ("continue", "string"),
        ("fieldSelector", "string"),
        ("labelSelector", "string"),
        ("limit", "integer"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("sendInitialEvents", "boolean"),
        ("timeoutSeconds", "integer"),
        ("watch", "boolean"),
    ];
    const WRITE: &[(&str, &str)] = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
    const DELETE: &[(&str, &str)] = &[
        ("dryRun", "string"),
        ("gracePeriodSeconds", "integer"),
        ("orphanDependents", "boolean"),
        ("propagationPolicy", "string"),
    ];
    let lists: &[&[(&str, &str)]] = match action {
        "list" => &[LIST],
        "post" | "put" => &[WRITE],
        "patch" => &[WRITE, &[("force", "boolean")]],
        "delete" => &[DELETE],
        "deletecollection" => &[DELETE, LIST],
        _ => &[],
    };
    let parameter = |(name, kind): &(&str, &str)| json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } });
    let pretty = std::iter::once(parameter(&("pretty", "string")));
    lists.iter().flat_map(|list| list.iter()).map(parameter).chain(pretty).collect()
}
