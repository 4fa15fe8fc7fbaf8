//! Services: addresses and ports that stand for a set of endpoints.
use std::{collections::BTreeMap, net::IpAddr};

use serde::Deserialize;

use crate::{
    IntOrString, Key, Labels,
    key::object,
    wire::{self, or_default},
};

/// `v1 Service`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// How it is reached.
    pub kind: ServiceType,
    /// `spec.clusterIPs`, or `spec.clusterIP`; empty for headless and external-name services.
    pub cluster_ips: Box<[IpAddr]>,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Ports.
    pub ports: Box<[ServicePort]>,
    /// Labels of its pods; absent if somebody else writes its EndpointSlices.
    pub selector: Option<Labels>,
    /// Seconds for which a client stays with its backend; 0: no affinity.
    pub affinity_seconds: u32,
    /// Traffic from outside goes to endpoints of the receiving node only.
    pub external_local: bool,
    /// Traffic from pods goes to endpoints of their own node only.
    pub internal_local: bool,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress` addresses that reach us untranslated (`ipMode` is not `Proxy`).
    pub load_balancer_ips: Box<[IpAddr]>,
}
object!(Service, "", "v1", "services", "Service");

/// `spec.type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum ServiceType {
    /// By its cluster address.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// And by a port of every node.
    NodePort,
    /// And by a load balancer's address.
    LoadBalancer,
    /// A name only.
    ExternalName,
    /// A type that we do not know: treated as a cluster address.
    #[serde(other)]
    Unknown,
}

/// One port of a service.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name; empty if the service has one port only. EndpointSlices repeat it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: Box<str>,
    /// Number at the service's address.
    pub port: u16,
    /// Number or name at the pods; absent: like `port`.
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// Number at every node; 0 if there is none.
    #[serde(default, deserialize_with = "or_default")]
    pub node_port: u16,
}

fn tcp() -> Box<str> {
    "TCP".into()
}

/// `sessionAffinityConfig.clientIP.timeoutSeconds` by default.
const AFFINITY_SECONDS: u32 = 10_800;

#[derive(Deserialize)]
struct Wire {
    metadata: wire::Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type", deserialize_with = "or_default")]
    kind: ServiceType,
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<Box<str>>,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<ServicePort>,
    selector: Option<BTreeMap<Box<str>, Box<str>>>,
    session_affinity: Option<Box<str>>,
    session_affinity_config: Option<AffinityConfig>,
    external_traffic_policy: Option<Box<str>>,
    internal_traffic_policy: Option<Box<str>>,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    external_ips: Vec<Box<str>>,
}

#[derive(Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    load_balancer: LoadBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<Ingress>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Ingress {
    #[serde(deserialize_with = "or_default")]
    ip: Box<str>,
    ip_mode: Option<Box<str>>,
}

impl Spec {
    fn affinity_seconds(&self) -> u32 {
        if self.session_affinity.as_deref() != Some("ClientIP") {
            return 0;
        }
        let configured = self.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        configured.unwrap_or(AFFINITY_SECONDS)
    }
}

impl From<Wire> for Service {
    fn from(mut wire: Wire) -> Service {
        let spec = wire.spec;
        let affinity_seconds = spec.affinity_seconds();
        let cluster_ips = match spec.cluster_ips.as_slice() {
            [] => wire::addresses(std::iter::once(&*spec.cluster_ip)),
            ips => wire::addresses(ips.iter().map(|ip| &**ip)),
        };
        let balancers = wire.status.load_balancer.ingress.iter();
        Service {
            key: wire.metadata.take_key(),
            labels: wire.metadata.take_labels(),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            kind: spec.kind,
            cluster_ips,
            headless: &*spec.cluster_ip == "None",
            ports: spec.ports.into(),
            selector: spec.selector.filter(|s| !s.is_empty()).map(Labels::from),
            affinity_seconds,
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_ips: wire::addresses(spec.external_ips.iter().map(|ip| &**ip)),
            load_balancer_ips: wire::addresses(
                balancers.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).map(|i| &*i.ip),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole() {
        let service: Service = serde_json::from_str(
            r#"{"metadata":{"name":"s","namespace":"n"},"spec":{"type":"NodePort","clusterIP":"10.96.0.9",
            "clusterIPs":["10.96.0.9","fd00::9"],"ports":[{"name":"http","port":80,"targetPort":"web","nodePort":30080},
            {"port":53,"protocol":"UDP"}],"selector":{"app":"s"},"sessionAffinity":"ClientIP",
            "externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster"},
            "status":{"loadBalancer":{"ingress":[{"ip":"1.2.3.4"},{"ip":"1.2.3.5","ipMode":"Proxy"},{"hostname":"x"}]}}}"#,
        )
        .unwrap();
        assert_eq!(service.kind, ServiceType::NodePort);
        assert_eq!(service.cluster_ips.len(), 2);
        assert_eq!(service.ports[0].target_port, Some(IntOrString::Name("web".into())));
        assert_eq!((service.ports[1].node_port, &*service.ports[1].protocol), (0, "UDP"));
        assert_eq!(service.affinity_seconds, 10_800);
        assert!(service.external_local && !service.internal_local && !service.headless);
        assert_eq!(service.load_balancer_ips.len(), 1);
    }

    #[test]
    fn headless_and_bare() {
        let json = r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":null}}"#;
        let service: Service = serde_json::from_str(json).unwrap();
        assert!(service.headless && service.cluster_ips.is_empty() && service.selector.is_none());
    }
}
