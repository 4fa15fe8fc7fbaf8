//! Nodes: their addresses and the pod ranges that they own.
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::{
    Key, Labels,
    key::object,
    wire::{self, or_default},
};

/// `v1 Node`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Node {
    /// Name; the key's namespace is empty.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// The annotations under `weft.`.
    pub annotations: Labels,
    /// `status.addresses` of type InternalIP, in the object's order.
    pub internal_ips: Box<[IpAddr]>,
    /// `status.addresses` of type ExternalIP.
    pub external_ips: Box<[IpAddr]>,
    /// `status.addresses` of type Hostname, else the name.
    pub hostname: Box<str>,
    /// `spec.podCIDRs`, or `spec.podCIDR`.
    pub pod_cidrs: Box<[IpNetwork]>,
}
object!(Node, "", "v1", "nodes", "Node");

#[derive(Deserialize)]
struct Wire {
    metadata: wire::Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<Box<str>>,
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    pod_cidrs: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    r#type: Box<str>,
    address: Box<str>,
}

impl Status {
    fn of_type(&self, wanted: &'static str) -> impl Iterator<Item = &str> {
        self.addresses.iter().filter(move |a| &*a.r#type == wanted).map(|a| &*a.address)
    }
}

impl From<Wire> for Node {
    fn from(mut wire: Wire) -> Node {
        let key = wire.metadata.take_key();
        let mut ranges = wire.spec.pod_cidrs;
        if ranges.is_empty() {
            ranges.extend(wire.spec.pod_cidr);
        }
        Node {
            labels: wire.metadata.take_labels(),
            annotations: wire.metadata.take_annotations(|name| name.starts_with("weft.")),
            internal_ips: wire::addresses(wire.status.of_type("InternalIP")),
            external_ips: wire::addresses(wire.status.of_type("ExternalIP")),
            hostname: wire.status.of_type("Hostname").next().unwrap_or(&key.name).into(),
            pod_cidrs: ranges.iter().filter_map(|text| text.parse().ok()).collect(),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_json() {
        let node: Node = serde_json::from_str(
            r#"{"metadata":{"name":"n1","labels":null},"spec":{"podCIDR":"10.244.0.0/24"},"status":{"addresses":[
                {"type":"InternalIP","address":"172.31.0.11"},{"type":"Hostname","address":"host-1"},
                {"type":"InternalIP","address":"not one"}]}}"#,
        )
        .unwrap();
        assert_eq!(*node.internal_ips, [IpAddr::from([172, 31, 0, 11])]);
        assert_eq!(&*node.hostname, "host-1");
        assert_eq!(node.pod_cidrs[0].to_string(), "10.244.0.0/24");
        let bare: Node = serde_json::from_str(r#"{"metadata":{"name":"n2"},"status":null}"#).unwrap();
        assert_eq!(&*bare.hostname, "n2");
    }
}
