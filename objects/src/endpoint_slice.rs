//! EndpointSlices: where the backends of a service are, with named target ports already resolved.
use serde::Deserialize;

use crate::{
    Key,
    key::object,
    wire::{self, or_default},
};

/// `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct EndpointSlice {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// The label `kubernetes.io/service-name`: name of the service in the same namespace; empty if it has none.
    pub service: Box<str>,
    /// What the addresses are.
    pub address_type: AddressType,
    /// Ports that every endpoint of the slice serves.
    pub ports: Box<[EndpointPort]>,
    /// Endpoints.
    pub endpoints: Box<[Endpoint]>,
}
object!(EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");

/// `addressType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    #[default]
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Names, which nobody routes to, or a type that we do not know.
    #[serde(other)]
    Other,
}

/// A port of the slice.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct EndpointPort {
    /// The service port's name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: Box<str>,
    /// Number; absent: unknown, and not for us.
    #[serde(default)]
    pub port: Option<u16>,
}

fn tcp() -> Box<str> {
    "TCP".into()
}

/// One endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Texts as they came; all but the first are to be ignored, says the API.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<Box<str>>,
    /// Whether it may be used.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Conditions,
    /// The node that it lives on.
    pub node_name: Option<Box<str>>,
    /// Its zone.
    pub zone: Option<Box<str>>,
    /// What it is, usually a pod.
    pub target_ref: Option<TargetRef>,
    /// For which zones it is meant.
    pub hints: Option<Hints>,
}

/// The object behind an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`.
    pub kind: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// `hints`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// Zones that should use the endpoint.
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<ForZone>,
}

/// One zone of `hints`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct ForZone {
    /// Its name.
    pub name: Box<str>,
}

/// Whether an endpoint may be used; each may be unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Takes new traffic; unknown counts as true.
    pub ready: Option<bool>,
    /// Could take traffic, though it may be going; unknown: as ready.
    pub serving: Option<bool>,
    /// Is going.
    pub terminating: Option<bool>,
}

impl Conditions {
    /// For new traffic.
    pub fn is_ready(self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Answers, though it may be going.
    pub fn is_serving(self) -> bool {
        self.serving.unwrap_or(self.is_ready())
    }

    /// For new traffic if nobody is ready: still serves, but is going (KEP-1669).
    pub fn is_last_resort(self) -> bool {
        self.is_serving() && self.terminating.unwrap_or(false)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: wire::Metadata,
    #[serde(default, deserialize_with = "or_default")]
    address_type: AddressType,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<EndpointPort>,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
}

impl From<Wire> for EndpointSlice {
    fn from(mut wire: Wire) -> EndpointSlice {
        EndpointSlice {
            service: wire.metadata.labels.remove("kubernetes.io/service-name").unwrap_or_default(),
            key: wire.metadata.take_key(),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            address_type: wire.address_type,
            ports: wire.ports.into(),
            endpoints: wire.endpoints.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_nulls() {
        let slice: EndpointSlice = serde_json::from_str(
            r#"{"metadata":{"name":"s-1","namespace":"n","labels":{"kubernetes.io/service-name":"s"}},
            "addressType":"IPv4","ports":[{"name":"","port":80,"protocol":"TCP"},{"port":null}],
            "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false,"serving":true,"terminating":true},
            "nodeName":"n1","targetRef":{"kind":"Pod","namespace":"n","name":"p","uid":"x"}},{"addresses":["10.0.0.2"]}]}"#,
        )
        .unwrap();
        assert_eq!(&*slice.service, "s");
        assert_eq!(slice.ports[1].port, None);
        let [going, ready] = &*slice.endpoints else { panic!("two endpoints") };
        assert!(!going.conditions.is_ready() && going.conditions.is_last_resort());
        assert!(ready.conditions.is_ready() && !ready.conditions.is_last_resort());
        let json = r#"{"metadata":{"name":"e"},"addressType":"FQDN","endpoints":null,"ports":null}"#;
        let empty: EndpointSlice = serde_json::from_str(json).unwrap();
        assert_eq!(empty.address_type, AddressType::Other);
    }
}
