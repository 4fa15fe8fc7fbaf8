//! Node: its pod CIDRs and provider stay once set; what it can give is what it has, if it does not say.

use serde_json::Value;

use super::{names, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let capacity = path::get(value, "status.capacity").clone();
    if capacity.is_object() && path::get(value, "status.allocatable").is_null() {
        path::entry(value, "status").insert("allocatable".to_owned(), capacity);
    }
    // The two fields for pod CIDRs say the same.
    let one = path::str(value, "spec.podCIDR").to_owned();
    if !one.is_empty() && path::list(value, "spec.podCIDRs").is_empty() {
        path::entry(value, "spec").insert("podCIDRs".to_owned(), Value::from(vec![one]));
    } else if let Some(first) = path::list(value, "spec.podCIDRs").first().cloned()
        && one.is_empty()
    {
        path::entry(value, "spec").insert("podCIDR".to_owned(), first);
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
    for (i, cidr) in path::list(value, "spec.podCIDRs").iter().filter_map(Value::as_str).enumerate() {
        if cidr.parse::<ipnetwork::IpNetwork>().is_err() || !cidr.contains('/') {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(format!("spec.podCIDRs[{i}]"), cidr, detail));
        }
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
