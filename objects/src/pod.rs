//! Pods: the most numerous object, so the smallest projection.
use std::net::IpAddr;

use serde::Deserialize;

use crate::{
    Key, Labels,
    key::object,
    wire::{self, or_default},
};

/// `v1 Pod`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Pod {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// Labels.
    pub labels: Labels,
    /// The annotations under `weft.`, the bandwidth limits (`kubernetes.io/*-bandwidth`) and `kubernetes.io/config.mirror`.
    pub annotations: Labels,
    /// `spec.nodeName`; empty until the pod is bound.
    pub node: Box<str>,
    /// The pod lives in its node's network namespace and has that node's addresses.
    pub host_network: bool,
    /// `status.podIPs`, or `status.podIP`.
    pub addresses: Box<[IpAddr]>,
    /// Where the pod is in its life.
    pub phase: Phase,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Ports of all containers, init containers that keep running (sidecars) included.
    pub ports: Box<[ContainerPort]>,
}
object!(Pod, "", "v1", "pods", "Pod");

/// On the mirror of a static pod: the uid that the kubelet, and so the container runtime, knows that pod by.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Pod {
    /// True if a container runtime means this pod by that uid: its own, or that of the static pod that it mirrors. A runtime
    /// that says none means whoever has the name.
    pub fn goes_by(&self, uid: &str) -> bool {
        uid.is_empty() || *self.uid == *uid || self.annotations.get(MIRROR) == Some(uid)
    }

    /// True once no container will run again: the address may already be another pod's.
    pub fn terminated(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }
}

/// `status.phase`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum Phase {
    /// Not all containers have started.
    #[default]
    Pending,
    /// Bound, and at least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one of them badly.
    Failed,
    /// The node has not been heard of, or a phase that we do not know.
    #[serde(other)]
    Unknown,
}

/// A port that a container declares.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name, or empty.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Box<str>,
    /// Number.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: Box<str>,
}

fn tcp() -> Box<str> {
    "TCP".into()
}

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
    #[serde(deserialize_with = "or_default")]
    node_name: Box<str>,
    #[serde(deserialize_with = "or_default")]
    host_network: bool,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(deserialize_with = "or_default")]
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    #[serde(deserialize_with = "or_default")]
    ports: Vec<ContainerPort>,
    restart_policy: Option<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    phase: Phase,
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<PodIp>,
}

#[derive(Deserialize, Default)]
struct PodIp {
    #[serde(default, deserialize_with = "or_default")]
    ip: Box<str>,
}

impl From<Wire> for Pod {
    fn from(mut wire: Wire) -> Pod {
        let sidecars = wire.spec.init_containers.into_iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let addresses = match wire.status.pod_ips.as_slice() {
            [] => wire::addresses(wire.status.pod_ip.as_deref().into_iter()),
            ips => wire::addresses(ips.iter().map(|ip| &*ip.ip)),
        };
        Pod {
            key: wire.metadata.take_key(),
            labels: wire.metadata.take_labels(),
            annotations: wire.metadata.take_annotations(|name| {
                name.starts_with("weft.")
                    || name.ends_with("kubernetes.io/ingress-bandwidth")
                    || name.ends_with("kubernetes.io/egress-bandwidth")
                    || name == MIRROR
            }),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            node: wire.spec.node_name,
            host_network: wire.spec.host_network,
            addresses,
            phase: wire.status.phase,
            deleting: wire.metadata.deletion_timestamp.is_some(),
            ports: wire.spec.containers.into_iter().chain(sidecars).flat_map(|c| c.ports).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole() {
        let pod: Pod = serde_json::from_str(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"ns","uid":"u","resourceVersion":"7",
            "labels":{"app":"a"},"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","weft.net/x":"1"},
            "deletionTimestamp":"2026-01-01T00:00:00Z"},
            "spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"name":"http"}]}],
            "initContainers":[{"name":"i","ports":[{"containerPort":1}]},
            {"name":"s","restartPolicy":"Always","ports":[{"containerPort":53,"protocol":"UDP"}]}]},
            "status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#,
        )
        .unwrap();
        assert_eq!(pod.key, Key::new("ns", "a"));
        assert_eq!((&*pod.uid, &*pod.version, &*pod.node), ("u", "7", "n1"));
        assert_eq!(pod.annotations.to_string(), "weft.net/x=1");
        assert_eq!(pod.addresses.len(), 2);
        assert!(pod.deleting && pod.phase == Phase::Running && !pod.host_network);
        let ports: Vec<_> = pod.ports.iter().map(|p| (&*p.name, p.container_port, &*p.protocol)).collect();
        assert_eq!(ports, [("http", 80, "TCP"), ("", 53, "UDP")]);
    }

    #[test]
    fn nulls_and_absent_fields() {
        let pod: Pod = serde_json::from_str(
            r#"{"metadata":{"name":"a","creationTimestamp":null,"labels":null},"spec":{"containers":null},"status":{}}"#,
        )
        .unwrap();
        assert_eq!(pod, Pod { key: Key::new("", "a"), ..Pod::default() });
        let pod: Pod = serde_json::from_str(r#"{"metadata":{"name":"a"},"status":{"podIP":"10.0.0.1"}}"#).unwrap();
        assert_eq!(*pod.addresses, [IpAddr::from([10, 0, 0, 1])]);
        let pod: Pod = serde_json::from_str(r#"{"metadata":{"name":"a"},"status":{"phase":"Odd"}}"#).unwrap();
        assert_eq!(pod.phase, Phase::Unknown);
    }

    #[test]
    fn size_is_a_design_figure() {
        assert!(size_of::<Pod>() <= 184, "{}", size_of::<Pod>());
    }
}
