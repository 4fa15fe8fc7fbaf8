//! From slices that are to slices that should be, with as few writes as upstream makes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{MANAGED_BY, MANAGER, desired::Groups};
use crate::{
    action::Action,
    names, resource, service_pods,
    snapshot::{SERVICE_LABEL, Snapshot},
    view::{Endpoint, EndpointPort, Map, Service, Slice},
};

const HEADLESS: &str = "service.kubernetes.io/headless";

/// Brings the slices of one address family to the wanted groups.
pub(super) fn family(
    snapshot: &Snapshot,
    service: &Service,
    family: &str,
    groups: &Groups,
    existing: &[&Slice],
) -> Vec<Action> {
    let context = Context { snapshot, service, family, labels: labels(service) };
    let mut rest: Vec<&Slice> = existing.to_vec();
    let mut actions = Vec::new();
    let mut made = 0;
    for (ports, endpoints) in groups {
        let (same, others): (Vec<&Slice>, Vec<&Slice>) =
            rest.into_iter().partition(|slice| sorted(&slice.ports) == *ports);
        rest = others;
        actions.extend(context.group(ports, endpoints.clone(), &same, &mut made));
    }
    if groups.is_empty() {
        // A service without endpoints has one empty slice, so that "none" and "not looked at yet" differ.
        let keep = (!rest.is_empty()).then(|| rest.remove(0));
        match keep {
            Some(slice) if slice.endpoints.is_empty() && context.labelled(slice) => {}
            Some(slice) => actions.push(context.update(slice, &[])),
            None => actions.push(context.create(&[], &[], &mut made)),
        }
    }
    // Slices of port sets that nobody has any more.
    actions.extend(rest.into_iter().map(|slice| Action::delete(resource::SLICES, &slice.meta)));
    actions
}

struct Context<'a> {
    snapshot: &'a Snapshot,
    service: &'a Service,
    family: &'a str,
    labels: Map,
}

/// A slice and what it will hold.
struct Draft<'a> {
    slice: &'a Slice,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl Context<'_> {
    fn group(
        &self,
        ports: &[EndpointPort],
        wanted: Vec<Endpoint>,
        existing: &[&Slice],
        made: &mut usize,
    ) -> Vec<Action> {
        let limit = self.snapshot.settings.endpoints_per_slice.max(1);
        let mut wanted: BTreeMap<String, Endpoint> = wanted.into_iter().map(|e| (identity(&e), e)).collect();
        let mut drafts: Vec<Draft<'_>> = existing.iter().map(|slice| self.keep(slice, &mut wanted)).collect();
        // What is new goes first where something is written anyway, then where there is room, then into new slices.
        drafts.sort_by_key(|draft| !draft.changed);
        let mut new: Vec<Endpoint> = wanted.into_values().collect();
        for draft in &mut drafts {
            let take = limit.saturating_sub(draft.endpoints.len()).min(new.len());
            if take > 0 {
                draft.endpoints.extend(new.drain(..take));
                draft.changed = true;
            }
        }
        let mut actions = Vec::new();
        // Creates before deletes: an endpoint is never in no slice.
        while !new.is_empty() {
            let some: Vec<Endpoint> = new.drain(..limit.min(new.len())).collect();
            actions.push(self.create(ports, &some, made));
        }
        for draft in &drafts {
            if draft.endpoints.is_empty() {
                continue;
            }
            if draft.changed {
                actions.push(self.update(draft.slice, &draft.endpoints));
            }
        }
        let empty = drafts.iter().filter(|draft| draft.endpoints.is_empty());
        actions.extend(empty.map(|draft| Action::delete(resource::SLICES, &draft.slice.meta)));
        actions
    }

    /// Endpoints of a slice that are still wanted, as they are wanted; takes them off the list.
    fn keep<'a>(&self, slice: &'a Slice, wanted: &mut BTreeMap<String, Endpoint>) -> Draft<'a> {
        let mut changed = !self.labelled(slice);
        let mut endpoints = Vec::new();
        for have in &slice.endpoints {
            match wanted.remove(&identity(have)) {
                Some(want) => {
                    changed |= want != *have;
                    endpoints.push(want);
                }
                None => changed = true,
            }
        }
        Draft { slice, endpoints, changed }
    }

    fn labelled(&self, slice: &Slice) -> bool {
        slice.meta.labels == self.labels
    }

    fn update(&self, slice: &Slice, endpoints: &[Endpoint]) -> Action {
        let mut patch = json!({ "endpoints": endpoints });
        if !self.labelled(slice) {
            let mut labels: serde_json::Map<String, Value> =
                slice.meta.labels.keys().map(|name| (name.clone(), Value::Null)).collect();
            labels.extend(self.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())));
            patch["metadata"] = json!({ "labels": labels });
        }
        Action::patch_exact(resource::SLICES, &slice.meta, None, patch)
    }

    fn create(&self, ports: &[EndpointPort], endpoints: &[Endpoint], made: &mut usize) -> Action {
        let meta = &self.service.meta;
        let revision = self.snapshot.revision().to_be_bytes();
        let seed: [&[u8]; 4] = [meta.uid.as_bytes(), self.family.as_bytes(), &revision, &made.to_be_bytes()];
        *made += 1;
        let owner = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "name": meta.name,
            "uid": meta.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        });
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": names::generated(&format!("{}-", meta.name), &seed),
                "namespace": meta.namespace,
                "labels": self.labels,
                "ownerReferences": [owner],
            },
            "addressType": self.family,
            "endpoints": endpoints,
            "ports": ports,
        });
        Action::Create { resource: resource::SLICES.into(), namespace: meta.namespace.clone(), object }
    }
}

/// What makes two endpoints the same one: its pod and its address.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().map_or("", |reference| reference.uid.as_str());
    format!("{}/{uid}", endpoint.addresses.join(","))
}

fn sorted(ports: &[EndpointPort]) -> Vec<EndpointPort> {
    let set: BTreeSet<EndpointPort> = ports
        .iter()
        .map(|port| EndpointPort { name: Some(port.name.clone().unwrap_or_default()), ..port.clone() })
        .collect();
    set.into_iter().collect()
}

/// The service's own labels and ours.
fn labels(service: &Service) -> Map {
    let mut labels = service.meta.labels.clone();
    labels.remove(HEADLESS);
    if service_pods::headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_LABEL.to_owned(), service.meta.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}
