//! Node: its pod CIDRs and provider stay once set; what it can give is what it has, if it does not say.

use serde_json::Value;

use super::{family::Family, names, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let capacity = path::get(value, "status.capacity").clone();
    if capacity.is_object() && path::get(value, "status.allocatable").is_null() {
        path::entry(value, "status").insert("allocatable".to_owned(), capacity);
    }
    // The two fields for pod CIDRs say the same; where they differ, older clients wrote the one alone.
    let one = path::str(value, "spec.podCIDR").to_owned();
    let first = path::list(value, "spec.podCIDRs").first().and_then(Value::as_str).map(str::to_owned);
    match first {
        Some(first) if one.is_empty() => {
            path::entry(value, "spec").insert("podCIDR".to_owned(), first.into());
        }
        first if !one.is_empty() && first.as_ref() != Some(&one) => {
            path::entry(value, "spec").insert("podCIDRs".to_owned(), Value::from(vec![one]));
        }
        _ => {}
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, taint) in path::list(value, "spec.taints").iter().enumerate() {
        let at = format!("spec.taints[{i}]");
        let (key, text, effect) = (path::str(taint, "key"), path::str(taint, "value"), path::str(taint, "effect"));
        errors.extend(names::qualified_name(key).into_iter().map(|e| FieldError::invalid(format!("{at}.key"), key, e)));
        errors
            .extend(names::label_value(text).into_iter().map(|e| FieldError::invalid(format!("{at}.value"), text, e)));
        match effect {
            "" => errors.push(FieldError::required(format!("{at}.effect"), "")),
            "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
            other => errors.push(FieldError::not_supported(
                format!("{at}.effect"),
                other,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            )),
        }
        let same = |other: &Value| path::str(other, "key") == key && path::str(other, "effect") == effect;
        if path::list(value, "spec.taints")[..i].iter().any(same) {
            let mut error = FieldError::duplicate(&at, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
    errors.extend(pod_cidrs(path::list(value, "spec.podCIDRs")));
    errors
}

/// One range, or one of each family.
fn pod_cidrs(cidrs: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = Vec::new();
    for (i, cidr) in cidrs.iter().filter_map(Value::as_str).enumerate() {
        match cidr.parse::<ipnetwork::IpNetwork>() {
            Ok(range) if cidr.contains('/') => seen.push(Family::of(range.ip())),
            _ => {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.push(FieldError::invalid(format!("spec.podCIDRs[{i}]"), cidr, detail));
            }
        }
    }
    if cidrs.len() > 2 || matches!(seen[..], [a, b] if a == b) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", cidrs.to_vec(), detail));
    }
    errors
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !path::list(old, "spec.podCIDRs").is_empty() && workload::immutable(new, old, "spec.podCIDRs").is_some() {
        errors.push(FieldError::forbidden(
            "spec.podCIDRs",
            "node updates may not change podCIDR except from \"\" to valid",
        ));
    }
    let before = path::str(old, "spec.providerID");
    if !before.is_empty() && before != path::str(new, "spec.providerID") {
        errors.push(FieldError::forbidden(
            "spec.providerID",
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(spec: &Value, cidrs: &[&str], expected: &[&str]) {
        let mut node = json!({ "spec": spec });
        default(&mut node);
        assert_eq!((&node["spec"]["podCIDR"], &node["spec"]["podCIDRs"]), (&json!(cidrs[0]), &json!(cidrs)));
        assert_eq!(validate(&node).iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_range_per_family() {
        let both = ["10.0.0.0/24", "fd00::/64"];
        check(&json!({"podCIDR": "10.0.0.0/24"}), &["10.0.0.0/24"], &[]);
        check(&json!({"podCIDRs": both}), &both, &[]);
        check(&json!({"podCIDR": "10.0.0.0/24", "podCIDRs": both}), &both, &[]);
        check(&json!({"podCIDR": "10.0.9.0/24", "podCIDRs": both}), &["10.0.9.0/24"], &[]);
        check(
            &json!({"podCIDRs": ["fd00::/64", "fd01::/64"]}),
            &["fd00::/64", "fd01::/64"],
            &[
                r#"spec.podCIDRs: Invalid value: ["fd00::/64","fd01::/64"]: may specify no more than one CIDR for each IP family"#,
            ],
        );
    }
}
