//! The IP families of a Service: which it gets when it does not say, and how one becomes two and two become one.
//!
//! Upstream: initIPFamilyFields in pkg/registry/core/service/storage/alloc.go. Pure: the caller says which families the
//! cluster has. The addresses themselves are given by the server's allocators, which come next and rely on this.

use std::{fmt, net::IpAddr};

use serde_json::{Value, json};

use super::addresses::{self, NONE, has_address};
use crate::{path, status::FieldError};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
pub(super) const POLICIES: [&str; 3] = [PREFER, REQUIRE, SINGLE];

/// An IP family, as Services and EndpointSlices name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

impl Family {
    /// Both, in the order in which upstream lists them.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// That of a name in an object.
    pub fn parse(name: &str) -> Option<Self> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Its name in objects.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Settles `ipFamilyPolicy` and `ipFamilies` of a Service that is to be stored, or says why they cannot be.
///
/// `configured` are the families of the cluster's service ranges, the primary one first.
pub fn choose(new: &mut Value, old: Option<&Value>, configured: &[Family]) -> Vec<FieldError> {
    if !has_address(new) || old.is_some_and(|old| untouched(new, old)) {
        return Vec::new();
    }
    default_policy(new, old);
    let mut errors = addresses::validate(path::get(new, "spec"));
    if !errors.is_empty() {
        return errors;
    }
    if let Some(old) = old {
        errors.extend(release_second(new, old));
    }
    errors.extend(too_many_for_one(new));
    errors.extend(infer(new, configured));
    if !errors.is_empty() {
        return errors;
    }
    // Whoever writes the endpoints of such a Service may write both families, whatever the cluster has.
    if headless_without_selector(new) {
        fill(new, configured, true);
        return Vec::new();
    }
    let errors = not_configured(new, configured);
    if errors.is_empty() {
        fill(new, configured, configured.len() > 1);
    }
    errors
}

/// A Service whose families nobody touches stays as it is when the cluster gains or loses one: a preference waits until
/// its user asks again, and a Service that required two can still be labelled, and let go by its finalizers.
fn untouched(new: &Value, old: &Value) -> bool {
    let same = |field: &str| path::same(path::get(new, field), path::get(old, field));
    let policies = (policy(new), policy(old));
    let settled = !path::list(old, "spec.ipFamilies").is_empty() && policies.0 == policies.1 && same("spec.selector");
    (settled || matches!(policies, (PREFER, "" | PREFER)))
        && ["spec.type", "spec.clusterIP", "spec.clusterIPs", "spec.ipFamilies"].into_iter().all(same)
}

/// Nobody goes from one family to two or back without saying so: what is left out is as it was.
fn default_policy(new: &mut Value, old: Option<&Value>) {
    if !policy(new).is_empty() {
        return;
    }
    let before = old.map(policy).unwrap_or_default();
    let policy = match before {
        "" if headless_without_selector(new) => REQUIRE,
        "" => SINGLE,
        before => before,
    };
    path::entry(new, "spec").insert("ipFamilyPolicy".to_owned(), policy.into());
}

/// `SingleStack` on a Service of two families, whose lists are untouched, releases the second; else a shorter list
/// needs that policy.
fn release_second(new: &mut Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let field = format!("spec.{key}");
        let (before, after) = (path::list(old, &field).len(), path::list(new, &field).len());
        if policy(new) == SINGLE {
            if after > 1 && addresses::same_list(new, old, key) {
                let first = path::list(new, &field)[0].clone();
                path::entry(new, "spec").insert(key.to_owned(), json!([first]));
            }
        } else if after > 0 && after < before {
            errors.push(wrong_policy(new, format!("must be 'SingleStack' to release the secondary {what}")));
        }
    }
    errors
}

fn too_many_for_one(new: &Value) -> Vec<FieldError> {
    let lists = [("spec.clusterIPs", "cluster IPs"), ("spec.ipFamilies", "IP families")];
    let long = lists.into_iter().filter(|(field, _)| policy(new) == SINGLE && path::list(new, field).len() == 2);
    long.map(|(_, what)| {
        wrong_policy(new, format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"))
    })
    .collect()
}

/// An address that the client gives says which family it is of.
fn infer(new: &mut Value, configured: &[Family]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut families = path::list(new, "spec.ipFamilies").to_vec();
    let ips = path::list(new, "spec.clusterIPs");
    for (i, ip) in ips.iter().enumerate().skip(families.len()) {
        let Some(ip) = ip.as_str().filter(|ip| *ip != NONE).and_then(|ip| ip.parse().ok()) else { break };
        let family = Family::of(ip);
        if configured.contains(&family) {
            families.push(family.name().into());
        } else {
            let detail = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), ips.to_vec(), detail));
        }
    }
    set_families(new, families);
    errors
}

fn not_configured(new: &Value, configured: &[Family]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy(new) == REQUIRE && configured.len() < 2 {
        errors.push(wrong_policy(new, "this cluster is not configured for dual-stack services".to_owned()));
    }
    for (i, name) in path::list(new, "spec.ipFamilies").iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !Family::parse(name).is_some_and(|family| configured.contains(&family)) {
            let field = format!("spec.ipFamilies[{i}]");
            errors.push(FieldError::invalid(field, name, "not configured on this cluster"));
        }
    }
    errors
}

/// The cluster's primary family for a Service that names none, and the other one for a Service that wants two.
fn fill(new: &mut Value, configured: &[Family], both: bool) {
    let mut families = path::list(new, "spec.ipFamilies").to_vec();
    if families.is_empty() {
        families.extend(configured.first().map(|family| Value::from(family.name())));
    }
    if let [only] = &families[..]
        && both
        && policy(new) != SINGLE
        && let Some(family) = only.as_str().and_then(Family::parse)
    {
        families.push(family.other().name().into());
    }
    set_families(new, families);
}

fn set_families(new: &mut Value, families: Vec<Value>) {
    if !families.is_empty() {
        path::entry(new, "spec").insert("ipFamilies".to_owned(), families.into());
    }
}

fn policy(service: &Value) -> &str {
    path::str(service, "spec.ipFamilyPolicy")
}

fn wrong_policy(service: &Value, detail: String) -> FieldError {
    FieldError::invalid("spec.ipFamilyPolicy", policy(service), detail)
}

fn headless_without_selector(service: &Value) -> bool {
    path::str(service, "spec.clusterIP") == NONE
        && path::map(service, "spec.selector").is_none_or(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests;
