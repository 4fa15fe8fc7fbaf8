//! Nodes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, cell};
use crate::path;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

pub(super) const VIEW: View = View {
    columns: "Name|Status|Roles|Age|Version|*Internal-IP|*External-IP|*OS-Image|*Kernel-Version|*Container-Runtime",
    cells,
};

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |key: &str| json!(cell::text(path::get(node, "status.nodeInfo"), key, "<unknown>"));
    vec![
        cell::name(node),
        json!(status(node)),
        json!(roles(node)),
        cell::age(node, now),
        json!(path::str(node, "status.nodeInfo.kubeletVersion")),
        json!(address(node, "InternalIP")),
        json!(address(node, "ExternalIP")),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let ready = match cell::condition(node, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if path::bool(node, "spec.unschedulable") { format!("{ready},SchedulingDisabled") } else { ready.to_owned() }
}

fn roles(node: &Value) -> String {
    let role = |(key, value): (&str, &str)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        None if key == "kubernetes.io/role" && !value.is_empty() => Some(value.to_owned()),
        _ => None,
    };
    let mut roles: Vec<String> = path::strings(node, "metadata.labels").filter_map(role).collect();
    roles.sort();
    roles.dedup();
    if roles.is_empty() { cell::NONE.to_owned() } else { roles.join(",") }
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = path::list(node, "status.addresses");
    addresses.iter().find(|a| path::str(a, "type") == kind).map_or(cell::NONE, |a| path::str(a, "address"))
}
