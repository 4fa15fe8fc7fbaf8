//! Golden files: YAML objects and the tables that must come of them, in one file. `UPDATE_EXPECT=1` rewrites.
//!
//! The node that compiles is `node-1`; slots are those of a node that starts with empty maps.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use std::{fs, path::Path, sync::Arc};

use objects::{EndpointSlice, Object, Service, Store};
use proxy::{
    Input, compile,
    slots::{Capacity, Slots, assign},
};
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

/// Between the objects and the tables.
const MARK: &str = "==== tables\n";

fn add<T: Object>(store: &mut Store<T>, value: Value) {
    let object: T = serde_yaml_ng::from_value(value).unwrap();
    store.insert(object.key().clone(), Arc::new(object));
}

fn tables(yaml: &str) -> String {
    let (mut services, mut slices) = (Store::<Service>::new(), Store::<EndpointSlice>::new());
    for document in Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).unwrap();
        match value["kind"].as_str() {
            Some("Service") => add(&mut services, value),
            Some("EndpointSlice") => add(&mut slices, value),
            _ => assert!(value.is_null(), "unknown kind in {value:?}"),
        }
    }
    let output = compile(&Input { services: &services, slices: &slices, node: "node-1" });
    let (slots, overflow) = assign(&Slots::default(), &output, Capacity::default(), |_, _| (0, 0));
    assert_eq!(overflow, proxy::slots::Overflow::default());
    format!("{output}==== slots\n{slots}")
}

#[track_caller]
fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let objects = text.split_once(MARK).map_or(&*text, |(objects, _)| objects);
    let whole = format!("{objects}{MARK}{}", tables(objects));
    expect_test::ExpectFile { path: path.to_path_buf(), position: file!() }.assert_eq(&whole);
}

#[test]
fn every_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().for_each(|path| check(path));
}
