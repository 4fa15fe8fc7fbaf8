//! Endpoints and EndpointSlice: addresses and ports of a Service.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{fill, names, workload};
use crate::{path, status::FieldError};

/// Endpoints of one slice, and ports.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn default(value: &mut Value) {
    for subset in fill::items(path::object(value), "subsets") {
        for port in fill::items(subset, "ports") {
            fill::set(port, "protocol", "TCP");
        }
    }
}

pub(super) fn default_slice(value: &mut Value) {
    for port in fill::items(path::object(value), "ports") {
        port.entry("name").or_insert(json!(""));
        fill::set(port, "protocol", "TCP");
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, subset) in path::list(value, "subsets").iter().enumerate() {
        let at = format!("subsets[{i}]");
        let count = path::list(subset, "addresses").len() + path::list(subset, "notReadyAddresses").len();
        if count == 0 {
            errors.push(FieldError::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (j, address) in path::list(subset, list).iter().enumerate() {
                errors.extend(special_ip(path::str(address, "ip"), &format!("{at}.{list}[{j}].ip")));
            }
        }
        errors.extend(ports(path::list(subset, "ports"), &format!("{at}.ports"), true));
    }
    errors
}

/// An address that a backend may not have.
fn special_ip(text: &str, at: &str) -> Option<FieldError> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Some(FieldError::invalid(at, text, BAD_IP));
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let detail = if ip.is_unspecified() {
        format!("may not be unspecified ({text})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if ip.is_multicast() {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid(at, text, detail))
}

fn ports(list: &[Value], at: &str, number_needed: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in list.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let name = path::str(port, "name");
        if name.is_empty() && list.len() > 1 && number_needed {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !name.is_empty() {
            errors.extend(
                names::dns1123_label(name).into_iter().map(|e| FieldError::invalid(format!("{at}.name"), name, e)),
            );
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        seen.push(name);
        let number = path::int(port, "port").unwrap_or(0);
        if number != 0 || number_needed {
            errors.extend(names::port_number(number).map(|e| FieldError::invalid(format!("{at}.port"), number, e)));
        }
        errors.extend(names::protocol(path::str(port, "protocol"), &format!("{at}.protocol")));
    }
    errors
}

pub(super) fn validate_slice(value: &Value) -> Vec<FieldError> {
    let kind = path::str(value, "addressType");
    let mut errors = Vec::new();
    match kind {
        "" => errors.push(FieldError::required("addressType", "")),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.push(FieldError::not_supported("addressType", other, &["FQDN", "IPv4", "IPv6"])),
    }
    let (endpoints, slice_ports) = (path::list(value, "endpoints"), path::list(value, "ports"));
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
    }
    if slice_ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many("ports", slice_ports.len(), MAX_PORTS));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let addresses = path::list(endpoint, "addresses");
        let at = format!("endpoints[{i}].addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(&at, "must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(&at, addresses.len(), 100));
        }
        for (j, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(slice_address(address, kind, &format!("{at}[{j}]")));
        }
    }
    errors.extend(ports(slice_ports, "ports", false));
    errors
}

fn slice_address(text: &str, kind: &str, at: &str) -> Option<FieldError> {
    // An IPv4 address in IPv6's clothes is neither, as Go has it.
    match (kind, text.parse::<IpAddr>().map(|ip| ip.to_canonical())) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => special_ip(text, at),
        ("IPv4", Ok(_)) => Some(FieldError::invalid(at, text, "must be an IPv4 address")),
        ("IPv6", Ok(_)) => Some(FieldError::invalid(at, text, "must be an IPv6 address")),
        ("IPv4" | "IPv6", Err(_)) => Some(FieldError::invalid(at, text, BAD_IP)),
        ("FQDN", _) => names::dns1123_subdomain(text).into_iter().next().map(|e| FieldError::invalid(at, text, e)),
        _ => None,
    }
}

pub(super) fn validate_slice_update(new: &Value, old: &Value) -> Vec<FieldError> {
    workload::immutable(new, old, "addressType").into_iter().collect()
}
