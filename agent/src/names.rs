//! Addresses, rules and services as people call them: for events, flows and lists.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use abi::{
    Addr,
    pod::{HOST, NONE, PodId},
    policy::{EGRESS, INGRESS},
};
use agent_api::v1::Endpoint;
use objects::{Key, Node, Pod, Service, Store};

use crate::{compile::Names, engine::Inbox, snapshot::Snapshot};

/// Whose an address is, cluster-wide; made anew when the objects have changed.
#[derive(Default)]
pub struct Addresses {
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    pods: Arc<Store<Pod>>,
    services: Arc<Store<Service>>,
    nodes: Arc<Store<Node>>,
    names: Arc<BTreeMap<IpAddr, String>>,
}

impl Addresses {
    /// Whose each address is.
    pub fn of(&self, inbox: &Inbox) -> Arc<BTreeMap<IpAddr, String>> {
        let now = inbox.snapshot();
        let mut cached = self.cached.lock().expect("no holder panics");
        let same = Arc::ptr_eq(&cached.pods, &now.pods)
            && Arc::ptr_eq(&cached.services, &now.services)
            && Arc::ptr_eq(&cached.nodes, &now.nodes);
        if !same {
            let names = Arc::new(names(&now));
            *cached = Cached { pods: now.pods, services: now.services, nodes: now.nodes, names };
        }
        cached.names.clone()
    }
}

fn names(snapshot: &Snapshot) -> BTreeMap<IpAddr, String> {
    let mut names = BTreeMap::new();
    for (key, service) in snapshot.services.iter() {
        let all = service.cluster_ips.iter().chain(&*service.external_ips).chain(&*service.load_balancer_ips);
        names.extend(all.map(|ip| (*ip, format!("service {key}"))));
    }
    for (key, pod) in snapshot.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.terminated()) {
        names.extend(pod.addresses.iter().map(|ip| (*ip, key.to_string())));
    }
    for attachment in snapshot.attachments.iter() {
        names.extend(attachment.addresses.iter().map(|ip| (*ip, attachment.pod.to_string())));
    }
    for (key, node) in snapshot.nodes.iter() {
        names.extend(node.internal_ips.iter().chain(&*node.external_ips).map(|ip| (*ip, format!("node {}", key.name))));
    }
    names
}

/// Names things for one moment.
pub struct Namer<'a> {
    /// Whose each address is.
    pub addresses: Arc<BTreeMap<IpAddr, String>>,
    /// What ids stand for.
    pub names: &'a Names,
    /// This node.
    pub node: &'a str,
}

impl Namer<'_> {
    /// An endpoint; `pod` is the pod of this node, if it is one. Ports in network byte order.
    pub fn endpoint(&self, addr: Addr, port: u16, pod: PodId) -> Endpoint {
        let ip = IpAddr::from(addr);
        let name = match pod {
            NONE => None,
            HOST => Some(format!("node {}", self.node)),
            id => self.names.pods.get(&id).map(Key::to_string),
        };
        let name = name.or_else(|| self.addresses.get(&ip).cloned()).unwrap_or_else(|| "external".to_owned());
        Endpoint { address: ip.to_string(), port: u32::from(u16::from_be(port)), name }
    }

    /// The policies behind a rule's or a policy set's id; `direction` picks those of a set that isolate that way.
    pub fn policies(&self, id: u32, direction: u8) -> Vec<String> {
        if let Some(set) = self.names.sets.get(&id) {
            let keys = match direction {
                INGRESS => &set.ingress,
                _ => &set.egress,
            };
            return keys.iter().map(Key::to_string).collect();
        }
        self.names.rules.get(&id).map(|rule| rule.policy.to_string()).into_iter().collect()
    }

    /// The policies that allowed a flow: egress of the source, ingress of the destination.
    pub fn allowed_by(&self, rules: [u32; 2]) -> Vec<String> {
        [(rules[0], EGRESS), (rules[1], INGRESS)].into_iter().flat_map(|(id, way)| self.policies(id, way)).collect()
    }
}
