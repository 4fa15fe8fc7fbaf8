//! NetworkPolicy: ingress always, egress if there are such rules.

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{fill, names, workload};
use crate::{path, status::FieldError};

pub(super) fn default(value: &mut Value) {
    let spec = path::entry(value, "spec");
    for direction in ["ingress", "egress"] {
        for rule in fill::items(spec, direction) {
            for port in fill::items(rule, "ports") {
                fill::set(port, "protocol", "TCP");
            }
        }
    }
    if spec.get("policyTypes").is_none_or(path::is_zero) {
        let egress = spec.get("egress").is_some_and(|e| !path::is_zero(e));
        spec.insert("policyTypes".to_owned(), if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    }
}

pub(super) fn validate(value: &Value) -> Vec<FieldError> {
    let spec = path::get(value, "spec");
    let mut errors = workload::selector(path::get(spec, "podSelector"), "spec.podSelector");
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in path::list(spec, direction).iter().enumerate() {
            let at = format!("spec.{direction}[{i}]");
            for (j, port) in path::list(rule, "ports").iter().enumerate() {
                errors.extend(policy_port(port, &format!("{at}.ports[{j}]")));
            }
            for (j, peer) in path::list(rule, peers).iter().enumerate() {
                errors.extend(policy_peer(peer, &format!("{at}.{peers}[{j}]")));
            }
        }
    }
    let types = path::list(spec, "policyTypes");
    if types.len() > 2 {
        errors.push(FieldError::invalid("spec.policyTypes", json!(types), "may not specify more than two policyTypes"));
        return errors;
    }
    for (i, kind) in types.iter().filter_map(Value::as_str).enumerate() {
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(FieldError::not_supported(format!("spec.policyTypes[{i}]"), kind, &["Egress", "Ingress"]));
        }
    }
    errors
}

fn policy_port(port: &Value, at: &str) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        names::protocol(path::str(port, "protocol"), &format!("{at}.protocol")).into_iter().collect();
    let (number, end) = (path::get(port, "port"), path::int(port, "endPort"));
    match number {
        Value::String(name) => {
            errors.extend(
                names::port_name(name).into_iter().map(|e| FieldError::invalid(format!("{at}.port"), name.as_str(), e)),
            );
            if let Some(end) = end {
                errors.push(FieldError::invalid(
                    format!("{at}.endPort"),
                    end,
                    "may not be specified when `port` is non-numeric",
                ));
            }
        }
        Value::Number(n) => {
            let n = n.as_i64().unwrap_or(0);
            errors.extend(names::port_number(n).map(|e| FieldError::invalid(format!("{at}.port"), n, e)));
            if let Some(end) = end {
                errors.extend(names::port_number(end).map(|e| FieldError::invalid(format!("{at}.endPort"), end, e)));
                if end < n {
                    errors.push(FieldError::invalid(
                        format!("{at}.endPort"),
                        end,
                        "must be greater than or equal to `port`",
                    ));
                }
            }
        }
        _ => {
            if let Some(end) = end {
                errors.push(FieldError::invalid(
                    format!("{at}.endPort"),
                    end,
                    "may not be specified when `port` is not specified",
                ));
            }
        }
    }
    errors
}

fn policy_peer(peer: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selectors = ["podSelector", "namespaceSelector"];
    for key in selectors {
        errors.extend(workload::selector(path::get(peer, key), &format!("{at}.{key}")));
    }
    let by_labels = selectors.iter().any(|key| peer.get(*key).is_some());
    match peer.get("ipBlock") {
        None if !by_labels => errors.push(FieldError::required(at, "must specify a peer")),
        None => {}
        Some(_) if by_labels => errors.push(FieldError::forbidden(at, "may not specify both ipBlock and another peer")),
        Some(block) => errors.extend(ip_block(block, &format!("{at}.ipBlock"))),
    }
    errors
}

fn ip_block(block: &Value, at: &str) -> Vec<FieldError> {
    const BAD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let text = path::str(block, "cidr");
    let parse = |text: &str| text.parse::<IpNetwork>().ok().filter(|_| text.contains('/'));
    if text.is_empty() {
        return vec![FieldError::required(format!("{at}.cidr"), "")];
    }
    let Some(cidr) = parse(text) else {
        return vec![FieldError::invalid(format!("{at}.cidr"), text, BAD)];
    };
    let mut errors = Vec::new();
    for (i, except) in path::list(block, "except").iter().filter_map(Value::as_str).enumerate() {
        let at = format!("{at}.except[{i}]");
        match parse(except) {
            None => errors.push(FieldError::invalid(at, except, BAD)),
            Some(inner) if !cidr.contains(inner.ip()) || cidr.prefix() >= inner.prefix() => {
                errors.push(FieldError::invalid(at, except, format!("must be a strict subset of `cidr` {text:?}")));
            }
            Some(_) => {}
        }
    }
    errors
}
