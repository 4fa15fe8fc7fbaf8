//! What the slice and the endpoints controller have in common: which services a change touches, which pods a service has,
//! and on which numbers its ports are there. Upstream: pkg/controller/util/endpoint, endpointslice's utils.

use std::sync::Arc;

use crate::{
    controller::{Change, Key},
    snapshot::Snapshot,
    view::{EndpointPort, IntOrString, Object, Pod, Service},
};

/// Services of a pod before and after, if what endpoints show of it changed.
pub(crate) fn services_of(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    if let (Some(Object::Pod(old)), Some(Object::Pod(new))) = (&change.old, &change.new)
        && shown(old) == shown(new)
    {
        return Vec::new();
    }
    let mut keys: Vec<Key> = [&change.old, &change.new]
        .into_iter()
        .flatten()
        .filter_map(|object| if let Object::Pod(pod) = object { Some(pod) } else { None })
        .flat_map(|pod| snapshot.indexes.selecting_services(pod))
        .cloned()
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// All of a pod that an endpoint depends on.
fn shown(pod: &Pod) -> impl PartialEq + '_ {
    (
        &pod.meta.labels,
        (pod.ready(), pod.terminated(), pod.meta.deleting(), pod.ips()),
        (&pod.spec.node_name, &pod.spec.hostname, &pod.spec.subdomain),
    )
}

/// Whether endpoints of this service are ours to keep.
pub(crate) fn kept(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.type_ != "ExternalName" && !service.meta.deleting()
}

/// Pods of a service that can be reached: with an address and not terminated.
pub(crate) fn pods<'a>(snapshot: &'a Snapshot, service: &'a Service) -> Vec<&'a Arc<Pod>> {
    let mut pods: Vec<&Arc<Pod>> = snapshot
        .selected_pods(&service.meta.namespace, &service.spec.selector)
        .filter(|pod| !pod.terminated() && !pod.ips().is_empty())
        .collect();
    pods.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    pods
}

/// The hostname by which a headless service's DNS knows the pod.
pub(crate) fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.meta.name;
    named.then(|| pod.spec.hostname.clone())
}

pub(crate) fn headless(service: &Service) -> bool {
    service.spec.cluster_ip == "None"
}

/// The service's ports as numbers in this pod; those whose name the pod does not have are left out.
pub(crate) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let mut ports: Vec<EndpointPort> = service
        .spec
        .ports
        .iter()
        .filter_map(|port| {
            let protocol = if port.protocol.is_empty() { "TCP" } else { port.protocol.as_str() };
            let number = match &port.target_port {
                None | Some(IntOrString::Int(0)) => port.port,
                Some(IntOrString::Int(number)) => u16::try_from(*number).ok()?,
                Some(IntOrString::String(name)) => named_port(pod, name, protocol)?,
            };
            Some(EndpointPort {
                name: Some(port.name.clone()),
                port: Some(number),
                protocol: Some(protocol.to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<u16> {
    let mut ports = pod.long_running().flat_map(|container| &container.ports);
    let found = ports
        .find(|port| port.name == name && (port.protocol == protocol || port.protocol.is_empty() && protocol == "TCP"));
    found.map(|port| port.container_port)
}
