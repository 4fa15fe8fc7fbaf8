//! EndpointSlices of services with a selector. Upstream: pkg/controller/endpointslice and staging's endpointslice reconciler.
//!
//! Slices are kept: an endpoint stays in the slice in which it is, a change touches the slices that it must and no others.

mod desired;
mod reconcile;

pub(crate) use desired::reference;
use jiff::Timestamp;

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    resource, service_pods,
    snapshot::{SERVICE_LABEL, Snapshot},
    view::{Object, Service, Slice},
};

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpointslice-controller",
    watches: &[resource::SERVICES, resource::PODS, resource::SLICES, resource::NODES],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (_, Some(Object::Service(_))) | (Some(Object::Service(_)), _) => vec![change.key.clone()],
        (_, Some(Object::Slice(slice))) | (Some(Object::Slice(slice)), _) => {
            let ours = slice.meta.label(MANAGED_BY) == Some(MANAGER);
            let service = slice.meta.label(SERVICE_LABEL).filter(|_| ours);
            service.map(|name| Key::new(change.key.namespace.clone(), name)).into_iter().collect()
        }
        (Some(Object::Node(old)), Some(Object::Node(new))) if old.meta.label(ZONE) == new.meta.label(ZONE) => {
            Vec::new()
        }
        (_, Some(Object::Node(node))) if node.meta.label(ZONE).is_some() => {
            let mut keys: Vec<Key> = snapshot
                .pods_on(&node.meta.name)
                .flat_map(|pod| snapshot.indexes.selecting_services(pod))
                .cloned()
                .collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        }
        _ if &*change.resource == resource::PODS => service_pods::services_of(snapshot, change),
        _ => Vec::new(),
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let Some(service) = snapshot.services.get(key).filter(|service| service_pods::kept(service)) else {
        // Slices of a service that is gone are the garbage collector's; without a selector they are the user's.
        return Vec::new();
    };
    let ours: Vec<&Slice> = snapshot
        .indexes
        .slices_by_service
        .get(key)
        .into_iter()
        .flatten()
        .filter_map(|key| snapshot.slices.get(key))
        .map(|slice| &**slice)
        .filter(|slice| slice.meta.label(MANAGED_BY) == Some(MANAGER) && !slice.meta.deleting())
        .collect();
    let families = families(service);
    let mut actions: Vec<Action> = Vec::new();
    for family in FAMILIES {
        let existing: Vec<&Slice> = ours.iter().filter(|slice| slice.address_type == family).copied().collect();
        if families.contains(&family) {
            let groups = desired::groups(snapshot, service, family);
            actions.extend(reconcile::family(snapshot, service, family, &groups, &existing));
        } else {
            actions.extend(existing.iter().map(|slice| Action::delete(resource::SLICES, &slice.meta)));
        }
    }
    actions
}

/// Both for a headless service that names none: its pods decide.
fn families(service: &Service) -> Vec<&str> {
    match (&service.spec.ip_families[..], service.spec.cluster_ip.as_str()) {
        ([], "None") => FAMILIES.to_vec(),
        ([], ip) => vec![if ip.contains(':') { "IPv6" } else { "IPv4" }],
        (named, _) => named.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests;
