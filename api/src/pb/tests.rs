//! The fixtures of the reference (in `../shared`, not in the project) both ways, and bodies that kubectl sends.

use std::{io::Write, path::PathBuf};

use serde_json::json;

use super::*;
use crate::schema::shape;

/// Where the fixtures are, if this machine has them.
fn fixtures() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/kubernetes-1.36/wire");
    if !dir.is_dir() {
        // Not through eprintln!, which the test harness keeps to itself. The cases below stand without the fixtures.
        let _ =
            writeln!(std::io::stderr(), "NOTE: no protobuf fixtures at {}; only our own cases are run", dir.display());
        return None;
    }
    Some(dir)
}

/// The pairs of JSON and protobuf of all kinds that we serve.
fn pairs() -> Vec<(String, Value, Vec<u8>)> {
    let Some(dir) = fixtures() else { return Vec::new() };
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let (group, version) = schema::split_api_version(path::str(&json, "apiVersion"));
            if shape::type_of_kind(group, version, path::str(&json, "kind")).is_some() {
                out.push((path.display().to_string(), json, std::fs::read(path.with_extension("pb")).unwrap()));
            }
        }
    }
    out
}

/// Without what is empty: a message cannot tell an empty map from none.
fn lean(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .map(|(k, v)| (k.clone(), lean(v)))
                .filter(|(_, v)| !path::is_zero(v) || v.is_number() || v.is_boolean());
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(lean).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_fixture_is_read() {
    for (name, json, bytes) in pairs() {
        let got = decode(&bytes).unwrap();
        let ty = |v: &Value| v["kind"].clone();
        assert_eq!(ty(&got), ty(&json), "{name}");
        assert_eq!(lean(&got), lean(&json), "{name}");
    }
}

#[test]
fn every_fixture_is_written() {
    for (name, json, bytes) in pairs() {
        let again = decode(&encode(&json).unwrap_or_else(|e| panic!("{name}: {e}"))).unwrap();
        assert_eq!(lean(&again), lean(&decode(&bytes).unwrap()), "{name}");
    }
}

#[test]
fn our_own_objects_go_there_and_back() {
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": "p", "labels": {"a": "b", "c": ""}, "creationTimestamp": "2026-11-21T03:17:00Z", "generation": 3},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "args": ["x", ""], "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
                "resources": {"limits": {"cpu": "500m"}}, "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5},
            }],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "configMap": {"name": "m", "defaultMode": 420}}],
            "automountServiceAccountToken": false, "tolerations": [{"operator": "Exists", "tolerationSeconds": 0}],
        },
    });
    assert_eq!(decode(&encode(&pod).unwrap()).unwrap(), pod);
    let lease = json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": {"renewTime": "2026-11-21T03:17:00.123456Z", "leaseDurationSeconds": 40}});
    assert_eq!(decode(&encode(&lease).unwrap()).unwrap(), lease);
    let secret = json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "AAEC/w=="}, "immutable": false});
    assert_eq!(decode(&encode(&secret).unwrap()).unwrap(), secret);
}

#[test]
fn what_kubectl_posts() {
    let bytes = b"k8s\0\n2\n\x17authorization.k8s.io/v1\x12\x17SelfSubjectAccessReview\x12<\n\x10\n\0\x12\0\x1a\0\"\0*\x002\x008\0B\0\x12\x1e\n\x1c\n\x07default\x12\x03get\x1a\0\"\0*\x04pods2\0:\0\x1a\x08\x08\0\x12\0\x1a\0 \0\x1a\0\"\0";
    let value =
        crate::decode::decode_options("SelfSubjectAccessReview", crate::decode::Format::Protobuf, bytes).unwrap();
    assert_eq!(value["spec"]["resourceAttributes"], json!({"namespace": "default", "verb": "get", "resource": "pods"}));
}

#[test]
fn broken_bodies_are_refused() {
    for bytes in [&b""[..], b"k8s", b"k8s\0\n", b"{}", b"k8s\0\n\x09\n\x02v1\x12\x03Xyz", b"k8s\0\x1a\x04gzip"] {
        assert_eq!(decode(bytes).map_err(|e| e.code), Err(400), "{bytes:?}");
    }
}
