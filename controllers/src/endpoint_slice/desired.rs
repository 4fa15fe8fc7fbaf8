//! What the endpoints of a service should be, in groups of pods that have its ports on the same numbers.

use std::{collections::BTreeMap, sync::Arc};

use super::ZONE;
use crate::{
    service_pods,
    snapshot::Snapshot,
    view::{Endpoint, EndpointConditions, EndpointPort, Pod, Reference, Service},
};

/// Endpoints by port set. Without any there is one empty group, for the placeholder slice.
pub(super) type Groups = BTreeMap<Vec<EndpointPort>, Vec<Endpoint>>;

/// The groups of one address family.
pub(super) fn groups(snapshot: &Snapshot, service: &Service, family: &str) -> Groups {
    let mut groups = Groups::new();
    for pod in service_pods::pods(snapshot, service) {
        let addresses: Vec<String> = pod
            .ips()
            .into_iter()
            .filter(|ip| ip.contains(':') == (family == "IPv6"))
            .map(ToOwned::to_owned)
            .take(1)
            .collect();
        if !addresses.is_empty() {
            let ports = service_pods::ports(service, pod);
            groups.entry(ports).or_default().push(endpoint(snapshot, service, pod, addresses));
        }
    }
    groups
}

fn endpoint(snapshot: &Snapshot, service: &Service, pod: &Arc<Pod>, addresses: Vec<String>) -> Endpoint {
    let serving = pod.ready();
    let terminating = pod.meta.deleting();
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let node = Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty());
    let zone = node.as_ref().and_then(|name| snapshot.nodes.named("", name)?.meta.label(ZONE).map(ToOwned::to_owned));
    Endpoint {
        addresses,
        conditions: EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) },
        hostname: service_pods::hostname(service, pod),
        target_ref: Some(reference(pod)),
        node_name: node,
        zone,
    }
}

/// How endpoints point to their pod.
pub(crate) fn reference(pod: &Pod) -> Reference {
    Reference {
        kind: "Pod".to_owned(),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid.clone(),
    }
}
