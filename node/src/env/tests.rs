//! Environments of containers that use one source each.

use super::*;

const NODE: Allocatable = Allocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 1 << 30 };

fn pod() -> Pod {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", "labels": {"app": "web", "tier": "a\"b"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": "robot", "containers": []},
    }))
    .expect("a pod")
}

fn sources() -> Sources<'static> {
    let map: ConfigMap =
        serde_json::from_value(serde_json::json!({"data": {"colour": "blue", "size": "xl"}})).expect("a map");
    let secret: Secret = serde_json::from_value(serde_json::json!({"data": {"word": "c2VzYW1l"}})).expect("a secret");
    Sources {
        config_maps: BTreeMap::from([("settings".to_owned(), map)]),
        secrets: BTreeMap::from([("hidden".to_owned(), secret)]),
        pod_ips: vec!["10.244.0.9".parse().expect("ip"), "fd00::9".parse().expect("ip")],
        host_ips: vec!["172.31.0.11".parse().expect("ip"), "fd00:172:31::11".parse().expect("ip")],
        ..Sources::default()
    }
}

#[track_caller]
fn check(container: serde_json::Value, expected: Result<&[&str], &str>) {
    let mut container = container;
    container["name"] = "c".into();
    let container: Container = serde_json::from_value(container).expect("a container");
    let found = environment(&pod(), &container, &sources(), NODE);
    let found = found.map(|env| env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>());
    match (found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(found), Err(expected)) => assert_eq!(found.to_string(), expected),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

#[test]
fn values_and_references_to_them() {
    check(
        serde_json::json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C"}]}),
        Ok(&["A=1", "B=1$(C)", "C="]),
    );
    check(
        serde_json::json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "$(A)3"}]}),
        Ok(&["B=2", "A=13"]),
    );
}

#[test]
fn whole_maps_and_secrets() {
    check(
        serde_json::json!({"envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}]}),
        Ok(&["S_colour=blue", "S_size=xl"]),
    );
    check(
        serde_json::json!({"envFrom": [{"secretRef": {"name": "hidden"}}], "env": [{"name": "word", "value": "mine"}]}),
        Ok(&["word=mine"]),
    );
    check(serde_json::json!({"envFrom": [{"configMapRef": {"name": "no", "optional": true}}]}), Ok(&[]));
    check(serde_json::json!({"envFrom": [{"configMapRef": {"name": "no"}}]}), Err("configmap \"no\" not found"));
    check(serde_json::json!({"envFrom": [{"secretRef": {"name": "no"}}]}), Err("secret \"no\" not found"));
}

#[track_caller]
fn check_source(source: &serde_json::Value, expected: Result<&[&str], &str>) {
    check(serde_json::json!({"env": [{"name": "V", "valueFrom": source}]}), expected);
}

#[test]
fn single_keys() {
    check_source(&serde_json::json!({"configMapKeyRef": {"name": "settings", "key": "colour"}}), Ok(&["V=blue"]));
    check_source(&serde_json::json!({"secretKeyRef": {"name": "hidden", "key": "word"}}), Ok(&["V=sesame"]));
    check_source(&serde_json::json!({"secretKeyRef": {"name": "hidden", "key": "no", "optional": true}}), Ok(&[]));
    check_source(
        &serde_json::json!({"secretKeyRef": {"name": "hidden", "key": "no"}}),
        Err("couldn't find key no in Secret shop/hidden"),
    );
    check_source(
        &serde_json::json!({"configMapKeyRef": {"name": "no", "key": "k"}}),
        Err("configmap \"no\" not found"),
    );
}

#[test]
fn fields_of_pod_and_container() {
    let cases = [
        ("metadata.name", "V=web-0"),
        ("metadata.labels['app']", "V=web"),
        ("metadata.labels", "V=app=\"web\"\ntier=\"a\\\"b\""),
        ("spec.nodeName", "V=node-1"),
        ("spec.serviceAccountName", "V=robot"),
        ("status.podIP", "V=10.244.0.9"),
        ("status.podIPs", "V=10.244.0.9,fd00::9"),
        ("status.hostIP", "V=172.31.0.11"),
        ("status.hostIPs", "V=172.31.0.11,fd00:172:31::11"),
    ];
    for (path, expected) in cases {
        check_source(&serde_json::json!({"fieldRef": {"fieldPath": path}}), Ok(&[expected]));
    }
    check_source(
        &serde_json::json!({"fieldRef": {"fieldPath": "spec.magic"}}),
        Err("unsupported fieldPath: spec.magic"),
    );
    check_source(&serde_json::json!({"resourceFieldRef": {"resource": "limits.cpu"}}), Ok(&["V=2"]));
}
