//! Objects in, wanted services out.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use abi::{
    Addr,
    service::{SCOPE_CLUSTER, SCOPE_NODE_PORT, ServiceId, ServiceKey},
};
use objects::{AddressType, Conditions, EndpointSlice, Issue, Key, Service, ServicePort, ServiceType, Store, content};

/// IP protocol number.
const TCP: u8 = 6;

/// What the compiler looks at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// All services.
    pub services: &'a Store<Service>,
    /// All EndpointSlices.
    pub slices: &'a Store<EndpointSlice>,
    /// This node's name: traffic policy `Local` means its endpoints.
    pub node: &'a str,
}

/// The services of the cluster as this node serves them. Its `Display` is the sorted text form.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// Wanted rows of `SERVICES`, with their backends.
    pub services: BTreeMap<ServiceKey, Entry>,
    /// Every backend that lives, also those that take no new flows: what they serve already goes on, datagrams only while
    /// they do serve. The node that each lives on, if it is known.
    pub backends: BTreeMap<BackendAddr, Option<Box<str>>>,
    /// What a service id stands for.
    pub names: BTreeMap<ServiceId, ServiceName>,
    /// What cannot be served, sorted.
    pub issues: Vec<Issue>,
}

/// A wanted row of `SERVICES`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Which service port.
    pub service: ServiceId,
    /// As in [`abi::service::Service::flags`].
    pub flags: u32,
    /// Seconds of client affinity; 0 is none.
    pub affinity: u32,
    /// Who takes new flows, sorted; empty: nobody.
    pub backends: Vec<BackendAddr>,
}

/// Where a backend serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendAddr {
    /// Address.
    pub addr: Addr,
    /// Port, host byte order.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
}

/// A service port, for people: `namespace/name:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ServiceName {
    /// The Service.
    pub service: Key,
    /// The port's name, or empty.
    pub port_name: Box<str>,
    /// The port's number.
    pub port: u16,
    /// IP protocol number.
    pub proto: u8,
}

/// Compiles all services.
pub fn compile(input: &Input) -> Output {
    let mut output = Output::default();
    let slices = slices_by_service(input.slices);
    let mut wanted = Vec::new();
    for (key, service) in input.services.iter().filter(|(_, service)| served(service)) {
        let slices = slices.get(key).map_or(&[][..], Vec::as_slice);
        for (index, port) in service.ports.iter().enumerate() {
            match proto_number(&port.protocol) {
                Ok(proto) => {
                    let name = name(service, port, proto);
                    wanted.push((name, port_entries(input, service, port, proto, slices, &mut output.backends)));
                }
                Err(fault) => output.issues.push(issue(service, format!("spec.ports[{index}].protocol: {fault}"))),
            }
        }
    }
    let texts: Vec<String> = wanted.iter().map(|(name, _)| id_text(name)).collect();
    let ids = content::ids(&texts.iter().map(String::as_str).collect::<BTreeSet<_>>());
    let mut claimed = Vec::new();
    for ((name, entries), text) in wanted.into_iter().zip(&texts) {
        let service = ids[text.as_str()];
        let (own, outside): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.own);
        for PortEntry { key, entry, .. } in own {
            output.add(key, Entry { service, ..entry }, &name);
        }
        claimed.extend(outside.into_iter().map(|claim| (claim.key, Entry { service, ..claim.entry }, name.clone())));
        output.names.insert(service, name);
    }
    // Last, so that nobody takes another service's own address by naming it as an external one.
    for (key, entry, name) in claimed {
        output.add(key, entry, &name);
    }
    output.issues.sort_unstable();
    output
}

impl Output {
    /// Of two services with one address and port, the one whose name sorts first has it.
    fn add(&mut self, key: ServiceKey, entry: Entry, name: &ServiceName) {
        match self.services.entry(key) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
            }
            std::collections::btree_map::Entry::Occupied(occupied) => {
                let owner = &self.names.get(&occupied.get().service);
                let owner = owner.map_or_else(|| name.service.to_string(), |name| name.service.to_string());
                let message = format!("{} is already {owner}'s; not served for this service", crate::KeyText(&key));
                self.issues.push(Issue {
                    kind: "Service",
                    key: name.service.clone(),
                    reason: "ServiceAddressConflict",
                    message,
                });
            }
        }
    }
}

/// Services that have an address of their own. Headless ones and names are DNS's affair.
fn served(service: &Service) -> bool {
    service.kind != ServiceType::ExternalName
        && !service.headless
        && !service.cluster_ips.is_empty()
        && service.labels.get("service.kubernetes.io/service-proxy-name").is_none()
}

fn slices_by_service(slices: &Store<EndpointSlice>) -> BTreeMap<Key, Vec<&Arc<EndpointSlice>>> {
    let mut by_service: BTreeMap<Key, Vec<_>> = BTreeMap::new();
    for (key, slice) in slices.iter().filter(|(_, slice)| !slice.service.is_empty()) {
        by_service.entry(Key::new(key.namespace.clone(), slice.service.clone())).or_default().push(slice);
    }
    by_service
}

fn proto_number(name: &str) -> Result<u8, String> {
    match name {
        "TCP" => Ok(TCP),
        "UDP" => Ok(17),
        "SCTP" => Err("SCTP is not translated; the port is not served".into()),
        _ => Err(format!("Unsupported value: {name:?}; the port is not served")),
    }
}

fn name(service: &Service, port: &ServicePort, proto: u8) -> ServiceName {
    ServiceName { service: service.key.clone(), port_name: port.name.clone(), port: port.port, proto }
}

/// Namespace, name and port name, and the protocol, since ports of one service may share a number.
fn id_text(name: &ServiceName) -> String {
    format!("{}:{}/{}", name.service, name.port_name, name.proto)
}

fn issue(service: &Service, message: String) -> Issue {
    Issue { kind: "Service", key: service.key.clone(), reason: "ServicePortNotServed", message }
}

/// A backend of a service port, and for whom it is.
struct Candidate {
    backend: BackendAddr,
    local: bool,
    conditions: Conditions,
}

/// A wanted row of one service port.
struct PortEntry {
    key: ServiceKey,
    entry: Entry,
    /// Of an address or port that the cluster gave out, not one that the service only claims.
    own: bool,
}

/// The rows of one service port. Backends that live are noted in `living`.
fn port_entries(
    input: &Input,
    service: &Service,
    port: &ServicePort,
    proto: u8,
    slices: &[&Arc<EndpointSlice>],
    living: &mut BTreeMap<BackendAddr, Option<Box<str>>>,
) -> Vec<PortEntry> {
    let mut entries = Vec::new();
    for ip in &service.cluster_ips {
        let family = family(*ip);
        let candidates = candidates(input, port, proto, family, slices, living);
        let mut push = |addr: Addr, port: u16, scope: u8, local_only: bool, own: bool| {
            let key = ServiceKey { addr, port: port.to_be(), proto, scope };
            let (affinity, backends) = (service.affinity_seconds, choose(&candidates, local_only));
            entries.push(PortEntry { key, entry: Entry { service: 0, flags: 0, affinity, backends }, own });
        };
        push((*ip).into(), port.port, SCOPE_CLUSTER, service.internal_local, true);
        if port.node_port != 0 {
            push(Addr::wildcard(ip.is_ipv4()), port.node_port, SCOPE_NODE_PORT, service.external_local, true);
        }
        let outside = service.external_ips.iter().chain(&*service.load_balancer_ips);
        for outside in outside.filter(|outside| self::family(**outside) == family) {
            push((*outside).into(), port.port, SCOPE_CLUSTER, service.external_local, false);
        }
    }
    entries
}

fn family(ip: IpAddr) -> AddressType {
    if ip.is_ipv4() { AddressType::IPv4 } else { AddressType::IPv6 }
}

/// Every endpoint that serves the port, in whatever condition.
fn candidates(
    input: &Input,
    port: &ServicePort,
    proto: u8,
    family: AddressType,
    slices: &[&Arc<EndpointSlice>],
    living: &mut BTreeMap<BackendAddr, Option<Box<str>>>,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type == family) {
        let same = |p: &&objects::EndpointPort| p.name == port.name && p.protocol == port.protocol;
        let Some(number) = slice.ports.iter().find(same).and_then(|p| p.port) else { continue };
        for endpoint in &slice.endpoints {
            let Some(ip) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
            let backend = BackendAddr { addr: ip.into(), port: number, proto };
            if keeps_flows(proto, endpoint.conditions) {
                let node = living.entry(backend).or_default();
                if node.is_none() {
                    node.clone_from(&endpoint.node_name);
                }
            }
            let local = endpoint.node_name.as_deref() == Some(input.node);
            candidates.push(Candidate { backend, local, conditions: endpoint.conditions });
        }
    }
    candidates
}

/// What goes to the endpoint already goes on. A TCP connection ends by what its ends say or do not answer; a client that sends
/// datagrams from one port for ever never comes as a new flow, so nobody answers it until its flow is taken from a backend that
/// does not serve (kube-proxy does so too).
fn keeps_flows(proto: u8, conditions: Conditions) -> bool {
    proto == TCP || conditions.is_ready() || conditions.is_serving()
}

/// Who takes new flows: the ready, and if there is none, those that are going but still serve (KEP-1669).
fn choose(candidates: &[Candidate], local_only: bool) -> Vec<BackendAddr> {
    let eligible = || candidates.iter().filter(|c| c.local || !local_only);
    let pick = |good: fn(Conditions) -> bool| -> Vec<BackendAddr> {
        let set: BTreeSet<BackendAddr> = eligible().filter(|c| good(c.conditions)).map(|c| c.backend).collect();
        set.into_iter().collect()
    };
    let ready = pick(Conditions::is_ready);
    if ready.is_empty() { pick(Conditions::is_last_resort) } else { ready }
}
