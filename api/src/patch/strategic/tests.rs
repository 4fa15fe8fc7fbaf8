//! Cases of the strategic merge, most of them what kubectl sends.

use serde_json::json;

use super::*;

const POD: &str = "io.k8s.api.core.v1.Pod";
const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";

#[track_caller]
fn check(type_name: &str, doc: Value, patch: Value, expected: Value) {
    assert_eq!(strategic(type_name, &doc, &patch).unwrap(), expected);
}

#[test]
fn lists_are_merged_by_their_key() {
    let doc = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let patch =
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "b", "image": "z"}]}});
    let expected = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "z"}]}});
    check(POD, doc.clone(), patch, expected);
    let added = json!({"spec": {"containers": [{"name": "c", "image": "n"}]}});
    let got = strategic(POD, &doc, &added).unwrap();
    assert_eq!(got["spec"]["containers"].as_array().unwrap().len(), 3);
}

#[test]
fn the_order_directive_reorders() {
    let doc = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}});
    check(POD, doc, patch, json!({"spec": {"containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}]}}));
}

#[test]
fn items_are_deleted_and_lists_replaced() {
    let doc = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let delete = json!({"spec": {"containers": [{"$patch": "delete", "name": "a"}]}});
    check(POD, doc.clone(), delete, json!({"spec": {"containers": [{"name": "b"}]}}));
    let replace = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}});
    check(POD, doc, replace, json!({"spec": {"containers": [{"name": "c"}]}}));
}

#[test]
fn maps_are_merged_replaced_and_deleted() {
    let doc = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    check(
        POD,
        doc.clone(),
        json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
    );
    check(
        POD,
        doc.clone(),
        json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
        json!({"metadata": {"labels": {"c": "3"}}}),
    );
    check(POD, doc, json!({"metadata": {"labels": {"$patch": "delete"}}}), json!({"metadata": {"labels": {}}}));
}

#[test]
fn primitive_lists() {
    let doc = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"]}});
    check(POD, doc.clone(), patch, json!({"metadata": {"finalizers": ["b", "c"]}}));
    check(
        POD,
        doc,
        json!({"metadata": {"finalizers": ["b", "d"]}}),
        json!({"metadata": {"finalizers": ["a", "b", "d"]}}),
    );
}

#[test]
fn retain_keys_drops_the_others() {
    let doc = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    check(DEPLOYMENT, doc.clone(), patch, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let bad = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    assert_eq!(strategic(DEPLOYMENT, &doc, &bad).unwrap_err().code, 422);
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let doc = json!({"spec": {"tolerations": [{"key": "a"}]}});
    check(POD, doc, json!({"spec": {"tolerations": [{"key": "b"}]}}), json!({"spec": {"tolerations": [{"key": "b"}]}}));
}

#[test]
fn new_values_lose_nulls_and_directives() {
    let patch = json!({"spec": {"a": {"b": null, "c": 1, "$setElementOrder/x": []}, "containers": [{"name": "a", "image": null}]}});
    check(POD, json!({}), patch, json!({"spec": {"a": {"c": 1}, "containers": [{"name": "a"}]}}));
}

#[test]
fn bad_patches_are_refused() {
    let doc = json!({"spec": {"containers": [{"name": "a"}]}});
    let no_key = json!({"spec": {"containers": [{"image": "x"}]}});
    assert_eq!(strategic(POD, &doc, &no_key).unwrap_err().code, 400);
    assert_eq!(strategic(POD, &doc, &json!({"spec": {"$patch": "jump"}})).unwrap_err().code, 400);
    assert_eq!(strategic(POD, &doc, &json!([])).unwrap_err().code, 400);
}
