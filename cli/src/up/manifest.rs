//! Manifests from files: YAML documents or JSON, several to a file, `List`s unfolded. Pure but for `read`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use kube::core::GroupVersionKind;
use serde::Deserialize as _;
use serde_json::Value;

/// One object and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// File, for messages.
    pub(crate) file: String,
    /// The object as written.
    pub(crate) value: Value,
}

impl Object {
    pub(crate) fn kind(&self) -> GroupVersionKind {
        let (api_version, kind) = (self.text("/apiVersion"), self.text("/kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        GroupVersionKind::gvk(group, version, kind)
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value.pointer("/metadata/namespace").and_then(Value::as_str)
    }

    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads a file, or every *.yaml, *.yml and *.json of a directory in the order of their names.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for file in files(path)? {
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        objects.extend(parse(&file.display().to_string(), &text)?);
    }
    Ok(objects)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let manifest = |path: &PathBuf| {
        path.is_file() && path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(manifest).collect();
    files.sort();
    ensure!(!files.is_empty(), "{} holds no *.yaml, *.yml or *.json", path.display());
    Ok(files)
}

/// The objects of one file's text.
pub(crate) fn parse(file: &str, text: &str) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for (number, document) in (1..).zip(serde_yaml_ng::Deserializer::from_str(text)) {
        let value = Value::deserialize(document).with_context(|| format!("{file}: document {number}"))?;
        unfold(file, value, &mut objects)?;
    }
    Ok(objects)
}

fn unfold(file: &str, mut value: Value, objects: &mut Vec<Object>) -> anyhow::Result<()> {
    // An empty document, between two `---`.
    if value.is_null() {
        return Ok(());
    }
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    if is_list && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
        return items.into_iter().try_for_each(|item| unfold(file, item, objects));
    }
    let object = Object { file: file.to_owned(), value };
    for field in ["/apiVersion", "/kind", "/metadata/name"] {
        if object.text(field).is_empty() {
            bail!("{file}: an object has no {}", field.trim_start_matches('/').replace('/', "."));
        }
    }
    objects.push(object);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>) {
        let got = parse("f", text).map_err(|error| format!("{error:#}"));
        let got =
            got.map(|objects| objects.iter().map(|o| format!("{} {}", o.kind().kind, o.name())).collect::<Vec<_>>());
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{got}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn documents() {
        let one = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
        check(one, Ok(&["Service a"]));
        check(&format!("---\n{one}---\n---\n{one}"), Ok(&["Service a", "Service a"]));
        check(r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}"#, Ok(&["Pod p"]));
        check(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n",
            Ok(&["Pod p"]),
        );
        check("apiVersion: v1\nkind: Pod\n", Err("f: an object has no metadata.name"));
        check("kind: [", Err("f: document 1"));
    }

    #[test]
    fn groups() {
        let objects =
            parse("f", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: n}\n").expect("parses");
        assert_eq!(objects[0].kind(), GroupVersionKind::gvk("apps", "v1", "Deployment"));
        assert_eq!(objects[0].namespace(), Some("n"));
    }
}
