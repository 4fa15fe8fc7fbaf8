//! Golden files: YAML objects and the tables that must come of them, in one file. `UPDATE_EXPECT=1` rewrites.
//!
//! Pods of `node-1` are the local ones.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use std::{fs, path::Path, sync::Arc};

use objects::{Namespace, NetworkPolicy, Object, Pod, Store};
use policy::{Input, LocalPod, compile};
use serde::Deserialize;
use serde_yaml_ng::{Deserializer, Value};

/// Between the objects and the tables.
const MARK: &str = "==== tables\n";

#[derive(Default)]
struct World {
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
}

impl World {
    fn parse(yaml: &str) -> World {
        let mut world = World::default();
        for document in Deserializer::from_str(yaml) {
            let value = Value::deserialize(document).unwrap();
            match value["kind"].as_str() {
                Some("Pod") => add(&mut world.pods, value),
                Some("Namespace") => add(&mut world.namespaces, value),
                Some("NetworkPolicy") => add(&mut world.policies, value),
                _ => assert!(value.is_null(), "unknown kind in {value:?}"),
            }
        }
        world
    }

    fn tables(&self) -> String {
        let local: Vec<LocalPod> =
            self.pods.values().filter(|pod| &*pod.node == "node-1").map(|pod| local(pod)).collect();
        let input = Input { pods: &self.pods, namespaces: &self.namespaces, policies: &self.policies, local: &local };
        compile(&input).to_string()
    }
}

fn add<T: Object>(store: &mut Store<T>, value: Value) {
    let object: T = serde_yaml_ng::from_value(value).unwrap();
    store.insert(object.key().clone(), Arc::new(object));
}

fn local(pod: &Pod) -> LocalPod {
    LocalPod { key: pod.key.clone(), uid: pod.uid.clone(), addresses: pod.addresses.to_vec() }
}

#[track_caller]
fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let objects = text.split_once(MARK).map_or(&*text, |(objects, _)| objects);
    let tables = World::parse(objects).tables();
    expect_test::ExpectFile { path: path.to_path_buf(), position: file!() }
        .assert_eq(&format!("{objects}{MARK}{tables}"));
}

#[test]
fn every_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().for_each(|path| check(path));
}
