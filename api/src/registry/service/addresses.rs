//! `clusterIP` and `clusterIPs` of a Service: how the two follow each other, what they may hold, what may change.
//!
//! Upstream: patchAllocatedValues, normalizeClusterIPs and dropTypeDependentFields in pkg/registry/core/service,
//! ValidateServiceClusterIPsRelatedFields and validateUpgradeDowngrade… in pkg/apis/core/validation.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::family::{Family, POLICIES};
use crate::{path, status::FieldError};

pub(super) const NONE: &str = "None";
const SINGLE: &str = "SingleStack";
const UNCHANGEABLE: &str = "may not change once set";

/// The fields that only Services with an address of their own have; "None" is an address in this sense.
const FIELDS: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

/// Whether the type is one that has addresses.
pub(super) fn has_address(service: &Value) -> bool {
    path::str(service, "spec.type") != "ExternalName"
}

/// An older client gives one address, and means a list of one.
pub(super) fn prepare_create(new: &mut Value) {
    let one = path::str(new, "spec.clusterIP").to_owned();
    if !one.is_empty() && path::list(new, "spec.clusterIPs").is_empty() {
        set(new, "clusterIPs", json!([one]));
    }
}

/// What the server gave stays when the client leaves it out, the list follows the one address, and a Service that
/// needs no address any longer loses what the client did not set anew.
pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    if has_address(new) && has_address(old) {
        for key in ["clusterIP", "clusterIPs"] {
            let before = &path::get(old, "spec")[key];
            if path::is_zero(&path::get(new, "spec")[key]) && !path::is_zero(before) {
                set(new, key, before.clone());
            }
        }
    }
    let one = path::str(new, "spec.clusterIP").to_owned();
    if one != path::str(old, "spec.clusterIP") && same_list(new, old, "clusterIPs") {
        set(new, "clusterIPs", if one.is_empty() { Value::Null } else { json!([one]) });
    }
    if has_address(old) && !has_address(new) {
        drop_unchanged(new, old);
    }
}

fn drop_unchanged(new: &mut Value, old: &Value) {
    let same_ips = same_list(new, old, "clusterIPs");
    let before = path::get(old, "spec");
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.retain(|key, value| {
        let unchanged = match key.as_str() {
            "clusterIP" | "clusterIPs" => same_ips,
            _ => before.get(key) == Some(value),
        };
        !(FIELDS.contains(&key.as_str()) && (unchanged || path::is_zero(value)))
    });
}

fn set(service: &mut Value, key: &str, value: Value) {
    let spec = path::entry(service, "spec");
    if value.is_null() {
        spec.shift_remove(key);
    } else {
        spec.insert(key.to_owned(), value);
    }
}

/// Whether both have the same list in a field of the spec; an absent one is empty.
pub(super) fn same_list(a: &Value, b: &Value, key: &str) -> bool {
    let of = |service| path::list(path::get(service, "spec"), key);
    of(a) == of(b)
}

/// What is wrong with addresses, families and policy, each alone and together.
pub(super) fn validate(spec: &Value) -> Vec<FieldError> {
    let ips = path::list(spec, "clusterIPs");
    let mut errors: Vec<FieldError> = in_step(spec, ips).into_iter().collect();
    errors.extend(families(path::list(spec, "ipFamilies")));
    let policy = path::str(spec, "ipFamilyPolicy");
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported("spec.ipFamilyPolicy", policy, &POLICIES));
    }
    let invalid = |detail: &str| FieldError::invalid("spec.clusterIPs", ips.to_vec(), detail);
    let mut wrong = bad_addresses(ips);
    if ips.len() > 1 && ips[0] == NONE {
        wrong.insert(0, invalid("'None' must be the first and only value"));
    }
    let readable = wrong.is_empty();
    errors.extend(wrong);
    if ips.len() > 2 {
        errors.push(invalid("may only hold up to 2 values"));
    }
    if !readable {
        return errors;
    }
    let kinds: Vec<Option<Family>> = ips.iter().map(|ip| family_of(ip.as_str()?)).collect();
    if ips.len() > 1 && kinds.iter().enumerate().any(|(i, kind)| kinds[..i].contains(kind)) {
        errors.push(invalid("may specify no more than one IP for each IP family"));
    }
    errors.extend(mismatches(&kinds, ips, path::list(spec, "ipFamilies")));
    errors
}

/// The first of the list is the one address.
fn in_step(spec: &Value, ips: &[Value]) -> Option<FieldError> {
    let one = path::str(spec, "clusterIP");
    let detail = match ips.first() {
        None if one.is_empty() => return None,
        None => return Some(FieldError::required("spec.clusterIPs", "")),
        Some(_) if one.is_empty() => "must be empty when `clusterIP` is not specified",
        Some(first) if first != one => "first value must match `clusterIP`",
        Some(_) => return None,
    };
    Some(FieldError::invalid("spec.clusterIPs", ips.to_vec(), detail))
}

fn families(list: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, name) in list.iter().enumerate() {
        let field = format!("spec.ipFamilies[{i}]");
        let text = name.as_str().unwrap_or_default();
        if Family::parse(text).is_none() {
            errors.push(FieldError::not_supported(&field, text, &Family::ALL.map(Family::name)));
        }
        if list[..i].contains(name) {
            errors.push(FieldError::duplicate(field, text));
        }
    }
    errors
}

fn bad_addresses(ips: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, ip) in ips.iter().map(|ip| ip.as_str().unwrap_or_default()).enumerate() {
        if i == 0 && ip == NONE {
            continue;
        }
        let detail = match ip.parse() {
            Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => "must not be an IPv4-mapped IPv6 address",
            Ok(_) => continue,
            Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        };
        errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), ip, detail));
    }
    errors
}

fn family_of(text: &str) -> Option<Family> {
    text.parse().ok().map(Family::of)
}

fn mismatches(kinds: &[Option<Family>], ips: &[Value], families: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, (kind, name)) in kinds.iter().zip(families).enumerate() {
        let wanted = name.as_str().and_then(Family::parse);
        if let (Some(kind), Some(wanted)) = (kind, wanted)
            && *kind != wanted
        {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), ips[i].clone(), detail));
        }
    }
    errors
}

/// A Service without addresses may not speak of them.
pub(super) fn validate_absent(spec: &Value) -> Vec<FieldError> {
    let set = FIELDS.into_iter().filter(|key| *key != "clusterIP" && !path::is_zero(path::get(spec, key)));
    set.map(|key| FieldError::forbidden(format!("spec.{key}"), "may not be set for ExternalName services")).collect()
}

/// A second address and family may come and go; what is there may not change, unless the Service is, or becomes, one
/// without addresses.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if !has_address(new) || !has_address(old) {
        return Vec::new();
    }
    let headless = |service| matches!(path::list(service, "spec.clusterIPs"), [only] if *only == NONE);
    let (was, is) = (headless(old), headless(new));
    let mut errors = Vec::new();
    if !(was && is) {
        errors.extend(changed(new, old, ("clusterIPs", "clusterIP")));
    }
    if !was && !is {
        errors.extend(changed(new, old, ("ipFamilies", "ipFamily")));
    }
    errors
}

fn changed(new: &Value, old: &Value, (key, one): (&str, &str)) -> Vec<FieldError> {
    let field = format!("spec.{key}");
    let (before, after) = (path::list(old, &field), path::list(new, &field));
    let invalid = |i: usize, detail: &str| FieldError::invalid(format!("{field}[{i}]"), after.to_vec(), detail);
    if before.len() == after.len() {
        let differ = before.iter().zip(after).enumerate().filter(|(_, (b, a))| a != b);
        return differ.map(|(i, _)| invalid(i, UNCHANGEABLE)).collect();
    }
    let mut errors = Vec::new();
    if !before.is_empty() && after.is_empty() {
        errors.push(invalid(0, &format!("primary {one} can not be unset")));
    }
    if let (Some(b), Some(a)) = (before.first(), after.first())
        && a != b
    {
        errors.push(invalid(0, UNCHANGEABLE));
    }
    let policy = path::str(new, "spec.ipFamilyPolicy");
    if before.len() > 1 && after.len() == 1 && policy != SINGLE {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
    }
    errors
}
