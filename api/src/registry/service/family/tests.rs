//! What a Service asks for, on clusters of one and two families, and what becomes of it.
//!
//! The part that the allocators have between the two steps is played by [`give`]: addresses that tell their place.

use serde_json::{Value, json};

use super::{super::addresses, *};

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];
const V46: &[Family] = &[Family::V4, Family::V6];
const V64: &[Family] = &[Family::V6, Family::V4];

fn service(mut spec: Value) -> Value {
    for (key, value) in
        [("type", json!("ClusterIP")), ("selector", json!({"app": "web"})), ("ports", json!([{"port": 80}]))]
    {
        if spec.get(key).is_none() {
            spec[key] = value;
        }
    }
    json!({ "spec": spec })
}

/// An address for each family that has none.
fn give(new: &mut Value) {
    if !has_address(new) || path::str(new, "spec.clusterIP") == NONE {
        return;
    }
    let families = path::list(new, "spec.ipFamilies").to_vec();
    let mut ips = path::list(new, "spec.clusterIPs").to_vec();
    for family in families.iter().skip(ips.len()) {
        ips.push(json!(if family == "IPv4" { "10.96.0.9" } else { "fd00::9" }));
    }
    new["spec"]["clusterIP"] = ips[0].clone();
    new["spec"]["clusterIPs"] = ips.into();
}

fn write(mut new: Value, old: Option<&Value>, configured: &[Family]) -> Result<Value, String> {
    match old {
        None => addresses::prepare_create(&mut new),
        Some(old) => addresses::prepare_update(&mut new, old),
    }
    let mut errors = choose(&mut new, old, configured);
    if errors.is_empty() {
        give(&mut new);
        let spec = path::get(&new, "spec");
        errors = if has_address(&new) { addresses::validate(spec) } else { addresses::validate_absent(spec) };
        errors.extend(old.map(|old| addresses::validate_update(&new, old)).unwrap_or_default());
    }
    if errors.is_empty() { Ok(new) } else { Err(crate::status::field::aggregate(&errors)) }
}

/// Policy, families and addresses in one line.
fn brief(service: &Value) -> String {
    let of = |field: &str| {
        let list = path::list(service, field).iter().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(",")
    };
    format!("{} {} {}", policy(service), of("spec.ipFamilies"), of("spec.clusterIPs"))
}

#[track_caller]
fn created(configured: &[Family], spec: Value, expected: &str) {
    let result = write(service(spec), None, configured);
    assert_eq!(result.as_ref().map_or_else(Clone::clone, brief), expected);
}

#[test]
fn a_service_that_says_nothing_has_the_primary_family() {
    created(V4, json!({}), "SingleStack IPv4 10.96.0.9");
    created(V46, json!({}), "SingleStack IPv4 10.96.0.9");
    created(V64, json!({}), "SingleStack IPv6 fd00::9");
    created(V6, json!({"type": "NodePort"}), "SingleStack IPv6 fd00::9");
    created(V46, json!({"type": "ExternalName", "externalName": "a.b"}), "  ");
}

#[test]
fn what_a_service_may_ask_for() {
    created(V46, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6 fd00::9");
    created(V46, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9");
    created(V4, json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4 10.96.0.9");
    created(V64, json!({"ipFamilyPolicy": "RequireDualStack"}), "RequireDualStack IPv6,IPv4 fd00::9,10.96.0.9");
    let second_first = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]});
    created(V46, second_first, "PreferDualStack IPv6,IPv4 fd00::9,10.96.0.9");
    created(V46, json!({"clusterIP": "fd00::1"}), "SingleStack IPv6 fd00::1");
    let both = ["fd00::1", "10.96.0.1"];
    let spec = json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": both[0], "clusterIPs": both});
    created(V46, spec, "RequireDualStack IPv6,IPv4 fd00::1,10.96.0.1");
    let one_given = json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00::1"});
    created(V46, one_given, "PreferDualStack IPv6,IPv4 fd00::1,10.96.0.9");
}

#[test]
fn headless_services() {
    let none = || json!({"clusterIP": "None"});
    let with = |key: &str, value: Value| {
        let mut spec = none();
        spec[key] = value;
        spec
    };
    created(V46, none(), "SingleStack IPv4 None");
    created(V46, with("ipFamilyPolicy", json!("PreferDualStack")), "PreferDualStack IPv4,IPv6 None");
    created(V46, with("ipFamilies", json!(["IPv6"])), "SingleStack IPv6 None");
    let without = |key: &str, value: Value| {
        let mut spec = with("selector", json!({}));
        spec[key] = value;
        spec
    };
    created(V4, without("selector", json!({})), "RequireDualStack IPv4,IPv6 None");
    created(V6, without("selector", Value::Null), "RequireDualStack IPv6,IPv4 None");
    created(V4, without("ipFamilyPolicy", json!("SingleStack")), "SingleStack IPv4 None");
    created(V4, without("ipFamilies", json!(["IPv6"])), "RequireDualStack IPv6,IPv4 None");
    let refused = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    created(V4, with("ipFamilies", json!(["IPv6"])), refused);
}

#[test]
fn what_is_refused() {
    let policy = |detail: &str, policy: &str| format!("spec.ipFamilyPolicy: Invalid value: \"{policy}\": {detail}");
    let no_dual = policy("this cluster is not configured for dual-stack services", "RequireDualStack");
    created(V4, json!({"ipFamilyPolicy": "RequireDualStack"}), &no_dual);
    let one = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
    created(V46, json!({"ipFamilies": ["IPv4", "IPv6"]}), &policy(one, "SingleStack"));
    let foreign = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    created(V4, json!({"ipFamilies": ["IPv6"]}), foreign);
    let foreign = "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster";
    created(V4, json!({"clusterIP": "fd00::1"}), foreign);
    let unknown = "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"";
    created(V46, json!({"ipFamilyPolicy": "Both"}), unknown);
    let unknown = "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"";
    created(V46, json!({"ipFamilies": ["IPv5"]}), unknown);
    let twice = "spec.ipFamilies[1]: Duplicate value: \"IPv4\"";
    created(V46, json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}), twice);
    let ips = |ips: &[&str]| json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilyPolicy": "PreferDualStack"});
    let one_each = "spec.clusterIPs: Invalid value: [\"10.96.0.1\",\"10.96.0.2\"]: may specify no more than one IP for each IP family";
    created(V46, ips(&["10.96.0.1", "10.96.0.2"]), one_each);
    let none = "spec.clusterIPs: Invalid value: [\"None\",\"fd00::1\"]: 'None' must be the first and only value";
    created(V46, ips(&["None", "fd00::1"]), none);
    let bad = "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    created(V46, json!({"clusterIP": "x"}), bad);
    let mapped = "spec.clusterIPs[0]: Invalid value: \"::ffff:10.96.0.1\": must not be an IPv4-mapped IPv6 address";
    created(V46, json!({"clusterIP": "::ffff:10.96.0.1"}), mapped);
    let alone = "spec.clusterIPs: Invalid value: [\"fd00::1\"]: must be empty when `clusterIP` is not specified";
    created(V46, json!({"clusterIPs": ["fd00::1"]}), alone);
    let other = json!({"clusterIP": "10.96.0.1", "ipFamilies": ["IPv6"]});
    let other_family =
        "spec.clusterIPs[0]: Invalid value: \"10.96.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`";
    created(V46, other, other_family);
    let name = json!({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"]});
    let no = "Forbidden: may not be set for ExternalName services";
    created(V46, name, &format!("[spec.clusterIPs: {no}, spec.ipFamilies: {no}]"));
}

/// A merge patch on the spec of what is there.
#[track_caller]
fn updated(configured: &[Family], old: &Value, patch: &Value, expected: &str) -> Value {
    let mut new = old.clone();
    for (key, value) in patch.as_object().expect("a patch") {
        let spec = path::entry(&mut new, "spec");
        if value.is_null() {
            spec.shift_remove(key);
        } else {
            spec.insert(key.clone(), value.clone());
        }
    }
    let result = write(new, Some(old), configured);
    assert_eq!(result.as_ref().map_or_else(Clone::clone, brief), expected);
    result.unwrap_or_else(|_| old.clone())
}

#[track_caller]
fn made(configured: &[Family], spec: Value) -> Value {
    write(service(spec), None, configured).expect("a good Service")
}

#[test]
fn one_family_becomes_two_and_back() {
    let single = made(V46, json!({}));
    let dual = "10.96.0.9,fd00::9";
    let two = updated(
        V46,
        &single,
        &json!({"ipFamilyPolicy": "PreferDualStack"}),
        &format!("PreferDualStack IPv4,IPv6 {dual}"),
    );
    updated(
        V46,
        &single,
        &json!({"ipFamilyPolicy": "RequireDualStack"}),
        &format!("RequireDualStack IPv4,IPv6 {dual}"),
    );
    let given = json!({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["10.96.0.9", "fd00::7"]});
    updated(V46, &single, &given, "RequireDualStack IPv4,IPv6 10.96.0.9,fd00::7");
    let back = "SingleStack IPv4 10.96.0.9";
    updated(V46, &two, &json!({"ipFamilyPolicy": "SingleStack"}), back);
    updated(V46, &two, &json!({"ipFamilyPolicy": "SingleStack", "clusterIPs": ["10.96.0.9"]}), back);
    updated(V46, &two, &json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}), back);
    let word =
        "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary";
    updated(V46, &two, &json!({"clusterIPs": ["10.96.0.9"]}), &format!("{word} cluster IP"));
    updated(V46, &two, &json!({"ipFamilies": ["IPv4"]}), &format!("{word} IP family"));
    let required = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    updated(V4, &made(V4, json!({})), &json!({"ipFamilyPolicy": "RequireDualStack"}), required);
}

#[test]
fn what_is_given_stays() {
    let two = made(V46, json!({"ipFamilyPolicy": "PreferDualStack"}));
    let same = "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9";
    updated(V46, &two, &json!({"ports": [{"port": 81}]}), same);
    let bare = json!({"clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null});
    updated(V46, &two, &bare, same);
    updated(V46, &two, &json!({"type": "NodePort"}), same);
    let primary = "spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\",\"fd00::9\"]: may not change once set";
    updated(V46, &two, &json!({"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "fd00::9"]}), primary);
    let second = "spec.clusterIPs[1]: Invalid value: [\"10.96.0.9\",\"fd00::8\"]: may not change once set";
    updated(V46, &two, &json!({"clusterIPs": ["10.96.0.9", "fd00::8"]}), second);
    let one = made(V46, json!({}));
    let other = "spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set";
    updated(V46, &one, &json!({"clusterIP": "10.96.0.8"}), other);
    updated(V46, &one, &json!({"clusterIP": "None"}), &other.replace("10.96.0.8", "None"));
    let swapped =
        "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`";
    updated(V46, &one, &json!({"ipFamilies": ["IPv6"]}), swapped);
}

#[test]
fn a_preference_waits_for_its_user() {
    let before = made(V4, json!({"ipFamilyPolicy": "PreferDualStack"}));
    updated(V46, &before, &json!({"ports": [{"port": 81}]}), "PreferDualStack IPv4 10.96.0.9");
    let asked = json!({"ipFamilyPolicy": "RequireDualStack"});
    updated(V46, &before, &asked, "RequireDualStack IPv4,IPv6 10.96.0.9,fd00::9");
    let two = made(V46, json!({"ipFamilyPolicy": "PreferDualStack"}));
    updated(V4, &two, &json!({"ports": [{"port": 81}]}), "PreferDualStack IPv4,IPv6 10.96.0.9,fd00::9");
}

#[test]
fn what_was_required_outlives_its_family() {
    let two = made(V46, json!({"ipFamilyPolicy": "RequireDualStack"}));
    let same = "RequireDualStack IPv4,IPv6 10.96.0.9,fd00::9";
    updated(V4, &two, &json!({"ports": [{"port": 81}]}), same);
    updated(V4, &two, &json!({"ipFamilyPolicy": "SingleStack"}), "SingleStack IPv4 10.96.0.9");
    let foreign = "spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster";
    updated(V4, &two, &json!({"ipFamilyPolicy": "PreferDualStack"}), foreign);
    let both = made(V4, json!({"clusterIP": "None", "selector": {}}));
    let no = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    updated(V4, &both, &json!({"selector": {"app": "web"}}), &format!("[{no}, {foreign}]"));
}

#[test]
fn to_a_name_and_back() {
    let two = made(V46, json!({"ipFamilyPolicy": "PreferDualStack"}));
    let name = updated(V46, &two, &json!({"type": "ExternalName", "externalName": "a.b"}), "  ");
    let all = json!({"type": "ExternalName", "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null});
    updated(V46, &two, &all, "  ");
    updated(V64, &name, &json!({"type": "ClusterIP"}), "SingleStack IPv6 fd00::9");
    let wanted = json!({"type": "ClusterIP", "clusterIP": "10.96.0.7", "ipFamilyPolicy": "PreferDualStack"});
    updated(V64, &name, &wanted, "PreferDualStack IPv4,IPv6 10.96.0.7,fd00::9");
}
