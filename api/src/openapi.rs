//! OpenAPI v3: an index, and a document per group and version, made from the tables.
//!
//! kubectl reads it to validate, to explain, and to merge: paths carry the kind and the query parameters that the server
//! takes, properties carry list and patch keys. Descriptions are not in the tables. A document is made when it is asked for:
//! clients keep it by the hash that the index gives, so that is rare.

mod operation;
mod property;

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, OnceLock},
};

use serde_json::{Value, json};

use crate::{
    Object,
    schema::{self, Row, shape},
};

/// The release whose API this is.
const API_VERSION: &str = "v1.36.0";

/// `/openapi/v3`: the paths of the documents, each with its hash.
pub fn index() -> Value {
    let mut paths = Object::new();
    for (path, hash) in hashes() {
        paths.insert(path.clone(), json!({ "serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}") }));
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/<path>`, path as `api/v1` or `apis/apps/v1`: JSON bytes.
pub fn document(path: &str) -> Option<Arc<[u8]>> {
    let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => ("", version),
        ["apis", group, version] => (group, version),
        _ => return None,
    };
    let rows: Vec<&Row> = schema::rows().iter().filter(|r| r.group == group && r.version == version).collect();
    if rows.is_empty() {
        return None;
    }
    let bytes = serde_json::to_vec(&build(&rows)).expect("a JSON value is always written");
    Some(bytes.into())
}

/// The hash of a document, as the index has it: also its ETag.
pub fn hash(path: &str) -> Option<String> {
    hashes().iter().find(|(p, _)| p == path).map(|(_, hash)| hash.clone())
}

/// Path and hash of every document, made once.
fn hashes() -> &'static [(String, String)] {
    static HASHES: OnceLock<Vec<(String, String)>> = OnceLock::new();
    HASHES.get_or_init(|| {
        let mut out = Vec::new();
        for (group, versions) in schema::groups() {
            for version in versions {
                let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
                let mut hasher = DefaultHasher::new();
                document(&path).hash(&mut hasher);
                out.push((path, format!("{:016X}", hasher.finish())));
            }
        }
        out.sort();
        out
    })
}

fn build(rows: &[&Row]) -> Value {
    let mut paths = Object::new();
    for row in rows {
        operation::add_paths(row, &mut paths);
    }
    let mut names = BTreeSet::new();
    for row in rows {
        for name in operation::types_of(row) {
            property::collect(name, &mut names);
        }
    }
    let schemas: Object = names
        .iter()
        .filter_map(|name| shape::lookup(name).map(|ty| ((*name).to_owned(), property::schema(ty))))
        .collect();
    let security = json!({ "BearerToken": { "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header" } });
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": API_VERSION },
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": security },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Value {
        serde_json::from_slice(&document(path).unwrap()).unwrap()
    }

    #[test]
    fn every_group_has_a_document_and_every_reference_a_target() {
        fn references(value: &Value, schemas: &Object) {
            match value {
                Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                        let name = target.strip_prefix("#/components/schemas/").unwrap();
                        assert!(schemas.contains_key(name), "{name}");
                    }
                    map.values().for_each(|v| references(v, schemas));
                }
                Value::Array(items) => items.iter().for_each(|v| references(v, schemas)),
                _ => {}
            }
        }
        for (path, _) in hashes() {
            let document = read(path);
            references(&document, document["components"]["schemas"].as_object().unwrap());
        }
    }

    #[test]
    fn patches_say_what_they_take() {
        let document = read("apis/apps/v1");
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        let names: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun") && names.contains(&"fieldManager"));
        assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    }

    #[test]
    fn lists_say_their_keys() {
        let document = read("api/v1");
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "kind": "Pod", "version": "v1"}]));
    }

    #[test]
    fn the_index_names_all() {
        let paths = index();
        let url = paths["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
        assert_eq!(url, format!("/openapi/v3/api/v1?hash={}", hash("api/v1").unwrap()));
        assert!(document("api/v2").is_none() && document("").is_none());
    }
}
