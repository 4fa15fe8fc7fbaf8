//! Service: type, ports, policies. Addresses and node ports are given by the server's allocators; which families a
//! Service has is said in [`family`], what may stand in its address fields in `addresses`.

mod addresses;
pub mod family;

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{fill, meta, names, strategy};
use crate::{path, status::FieldError};

/// Three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn default(value: &mut Value) {
    let spec = path::entry(value, "spec");
    fill::set(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" {
        let config = path::object(spec.entry("sessionAffinityConfig").or_insert(json!({})));
        let client = path::object(config.entry("clientIP").or_insert(json!({})));
        fill::set_number(client, "timeoutSeconds", AFFINITY_SECONDS);
    } else {
        spec.shift_remove("sessionAffinityConfig");
    }
    fill::set(spec, "type", "ClusterIP");
    for port in fill::items(spec, "ports") {
        fill::set(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port.get("targetPort").is_none_or(path::is_zero) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let external_ips = spec.get("externalIPs").is_some_and(|ips| !path::is_zero(ips));
    if outside || (kind == "ClusterIP" && external_ips) {
        fill::set(spec, "externalTrafficPolicy", "Cluster");
    }
    if outside || kind == "ClusterIP" {
        fill::set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill::set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// A new Service has no load balancer yet.
pub(super) fn prepare_create(value: &mut Value) {
    addresses::prepare_create(value);
    value["status"] = json!({ "loadBalancer": {} });
}

/// What belongs to the old type goes with it, unless the client has changed it as well.
pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    let kind = path::str(new, "spec.type").to_owned();
    let accessible =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || !path::list(new, "spec.externalIPs").is_empty();
    let mut stale: Vec<&str> = Vec::new();
    if !accessible {
        stale.push("externalTrafficPolicy");
    }
    if kind != "LoadBalancer" {
        stale.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if kind == "ExternalName" {
        stale.push("internalTrafficPolicy");
    }
    if kind != path::str(old, "spec.type") {
        let spec = path::entry(new, "spec");
        spec.retain(|key, value| !(stale.contains(&key.as_str()) && path::get(old, "spec").get(key) == Some(value)));
    }
    addresses::prepare_update(new, old);
    strategy::keep(new, old, "status");
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let kind = path::str(spec, "type");
    let headless = path::str(spec, "clusterIP") == "None";
    let mut errors = Vec::new();
    if path::list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "ExternalName" => {
            errors.extend(addresses::validate_absent(spec));
            errors.extend(external_name(spec));
        }
        "LoadBalancer" if headless => {
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                "None",
                "may not be set to 'None' for LoadBalancer services",
            ));
        }
        "NodePort" if headless => {
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                "None",
                "may not be set to 'None' for NodePort services",
            ));
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => errors.push(FieldError::not_supported(
            "spec.type",
            other,
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        )),
    }
    if addresses::has_address(value) {
        errors.extend(addresses::validate(spec));
    }
    errors.extend(ports(path::list(spec, "ports"), kind));
    errors.extend(meta::labels(spec, "selector", "spec.selector"));
    errors.extend(policies(spec, kind));
    for (i, ip) in path::list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        if ip.parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid(format!("spec.externalIPs[{i}]"), ip, detail));
        }
    }
    errors
}

fn external_name(spec: &Value) -> Vec<FieldError> {
    let name = path::str(spec, "externalName");
    if name.is_empty() {
        return vec![FieldError::required("spec.externalName", "")];
    }
    let wrong = names::dns1123_subdomain(name.trim_end_matches('.'));
    wrong.into_iter().map(|e| FieldError::invalid("spec.externalName", name, e)).collect()
}

fn policies(spec: &Value, kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let affinity = path::str(spec, "sessionAffinity");
    if !matches!(affinity, "ClientIP" | "None") {
        errors.push(FieldError::not_supported("spec.sessionAffinity", affinity, &["ClientIP", "None"]));
    }
    let seconds = path::int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds");
    if let Some(seconds) = seconds.filter(|s| !(1..=86_400).contains(s)) {
        let detail = "must be greater than 0 and less than 86400";
        errors.push(FieldError::invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail));
    }
    for key in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        let policy = path::str(spec, key);
        if !matches!(policy, "" | "Cluster" | "Local") {
            errors.push(FieldError::not_supported(format!("spec.{key}"), policy, &["Cluster", "Local"]));
        }
    }
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || !path::list(spec, "externalIPs").is_empty();
    let policy = path::str(spec, "externalTrafficPolicy");
    if !outside && !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, detail));
    }
    errors
}

fn ports(list: &[Value], kind: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (mut seen_names, mut seen_ports, mut seen_nodes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (i, port) in list.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        let name = path::str(port, "name");
        if name.is_empty() && list.len() > 1 {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        } else if !name.is_empty() {
            errors.extend(
                names::dns1123_label(name).into_iter().map(|e| FieldError::invalid(format!("{at}.name"), name, e)),
            );
            if !seen_names.insert(name) {
                errors.push(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
        let (number, protocol) = (path::int(port, "port").unwrap_or(0), path::str(port, "protocol"));
        errors.extend(names::port_number(number).map(|e| FieldError::invalid(format!("{at}.port"), number, e)));
        errors.extend(names::protocol(protocol, &format!("{at}.protocol")));
        errors.extend(target_port(path::get(port, "targetPort"), &format!("{at}.targetPort")));
        if !seen_ports.insert((protocol, number)) {
            errors.push(FieldError::duplicate(at.clone(), json!({ "port": number, "protocol": protocol })));
        }
        let node = path::int(port, "nodePort").unwrap_or(0);
        if node != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            errors.push(FieldError::forbidden(
                format!("{at}.nodePort"),
                format!("may not be used when `type` is '{kind}'"),
            ));
        }
        if node != 0 && !seen_nodes.insert((protocol, node)) {
            errors.push(FieldError::duplicate(format!("{at}.nodePort"), node));
        }
    }
    errors
}

fn target_port(target: &Value, at: &str) -> Vec<FieldError> {
    match target {
        Value::String(name) => {
            names::port_name(name).into_iter().map(|e| FieldError::invalid(at, name.as_str(), e)).collect()
        }
        other => {
            let number = other.as_i64().unwrap_or(0);
            names::port_number(number).map(|e| FieldError::invalid(at, number, e)).into_iter().collect()
        }
    }
}

/// Addresses that are given stay, as long as the Service has them.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    addresses::validate_update(new, old)
}
