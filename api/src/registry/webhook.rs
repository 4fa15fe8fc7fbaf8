//! Admission webhooks and policies: their defaults.

use serde_json::{Value, json};

use super::fill;
use crate::{Object, path};

pub(super) fn default(value: &mut Value) {
    let mutating = path::str(value, "kind").starts_with("Mutating");
    let map = path::object(value);
    for hook in fill::items(map, "webhooks") {
        fill::set(hook, "failurePolicy", "Fail");
        fill::set(hook, "timeoutSeconds", 10);
        matching(hook);
        if mutating {
            fill::set(hook, "reinvocationPolicy", "Never");
        }
        rules(hook, "rules");
        if let Some(service) = fill::child(hook, "clientConfig").and_then(|c| fill::child(c, "service")) {
            fill::set(service, "port", 443);
        }
    }
    let Some(spec) = fill::child(map, "spec") else { return };
    if spec.contains_key("policyName") {
        if let Some(resources) = fill::child(spec, "matchResources") {
            constraints(resources);
        }
        return;
    }
    fill::set(spec, "failurePolicy", "Fail");
    if let Some(resources) = fill::child(spec, "matchConstraints") {
        constraints(resources);
    }
}

fn constraints(resources: &mut Object) {
    matching(resources);
    rules(resources, "resourceRules");
    rules(resources, "excludeResourceRules");
}

fn matching(map: &mut Object) {
    fill::set(map, "matchPolicy", "Equivalent");
    for key in ["namespaceSelector", "objectSelector"] {
        map.entry(key).or_insert(json!({}));
    }
}

fn rules(map: &mut Object, key: &str) {
    for rule in fill::items(map, key) {
        fill::set(rule, "scope", "*");
    }
}
