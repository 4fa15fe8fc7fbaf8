//! Objects → tables. Pure: no clock, no randomness, no order but that of keys.
//!
//! Policies and services are compiled by their own crates; what is added here is who and where: pods of this node,
//! nodes and the ways to them. Never fails: what makes no sense is left out, or fails closed, and is told as an `Issue`.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use abi::{
    Addr,
    addr::Prefix,
    pod::{EGRESS_LIMIT, HOST, Pod, PodId, QUEUED, READY},
    route::{CLUSTER_RANGE, LOCAL, NODE_ADDRESS, NOT_MASQUERADED, Node, NodeId, Route, SERVICE_RANGE, SPLITS},
};
use ipnetwork::IpNetwork;
use objects::{Issue, Key};
use policy::LocalPod;

use crate::{
    cni::wishes::Rate,
    mtu::{self, Outer},
    slots::{self, LOCAL_NODE, Places, Slots, node_is_free, pod_is_free},
    snapshot::{Attachment, Snapshot, of_family},
    tables::{Table, Tables, masked},
};

mod apiserver;
mod host_ports;
mod memo;
mod ways;

pub use memo::Memo;
pub use ways::{Way, Ways};

/// What a snapshot comes to.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The rows to be.
    pub tables: Tables,
    /// What ids in rows and events stand for.
    pub names: Names,
    /// Bad objects, sorted.
    pub issues: Vec<Issue>,
    /// Attachments whose policy these tables carry, by container id and interface.
    pub ready: BTreeSet<(Box<str>, Box<str>)>,
    /// By which way other nodes are reached, and why.
    pub ways: Ways,
}

/// What ids in rows and events stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Pods of this node.
    pub pods: BTreeMap<PodId, Key>,
    /// Nodes.
    pub nodes: BTreeMap<NodeId, Box<str>>,
    /// Rules of policies.
    pub rules: BTreeMap<abi::policy::RuleId, policy::Rule>,
    /// Sets of policies.
    pub sets: BTreeMap<abi::policy::SetId, policy::Set>,
    /// Service ports.
    pub services: BTreeMap<abi::service::ServiceId, proxy::ServiceName>,
}

/// Compiles a snapshot, with array rows as `slots` has them.
pub fn compile(snapshot: &Snapshot, slots: &Slots) -> Compiled {
    compile_again(snapshot, slots, &mut Memo::default())
}

/// As [`compile`]; what the last call noted is not worked out again while its objects are the same.
pub fn compile_again(snapshot: &Snapshot, slots: &Slots, memo: &mut Memo) -> Compiled {
    let mut out = Compiled::default();
    let nodes = nodes(snapshot, slots, &mut out);
    ways::decide(snapshot, &nodes, &mut out);
    routes(snapshot, &nodes, &mut out);
    policies(snapshot, slots, &mut out);
    services(snapshot, slots, (&nodes, memo.wanted(snapshot)), &mut out);
    out.names.nodes = nodes.into_iter().map(|(name, id)| (id, name.into())).collect();
    out.issues.extend(mtu::issues(snapshot));
    out.issues.sort_unstable();
    out
}

/// Rows of `NODES`; the ids by name.
fn nodes<'a>(snapshot: &'a Snapshot, slots: &Slots, out: &mut Compiled) -> BTreeMap<&'a str, NodeId> {
    let facts = &snapshot.node;
    let own = if facts.own4() == Addr::ANY { facts.own6() } else { facts.own4() };
    let local = slots.nodes.get(&LOCAL_NODE).filter(|row| row.tunnel == own);
    let generation = local.map_or(1, |row| row.generation);
    let mtu = snapshot.paths.own();
    out.tables.nodes.insert(LOCAL_NODE, Node { tunnel: own, generation, flags: LOCAL, mtu, ..Node::default() });
    let mut ids = BTreeMap::from([(&*facts.name, LOCAL_NODE)]);
    let mut places = Places::new(&slots.nodes, LOCAL_NODE + 1, Table::Nodes.spec().max_entries);
    let mut wanted: BTreeMap<Addr, &str> = BTreeMap::new();
    for (key, node) in snapshot.nodes.iter().filter(|(key, _)| key.name != facts.name) {
        // One overlay for both families.
        let Some(tunnel) = mtu::tunnel(&facts.own, node) else {
            if !node.internal_ips.is_empty() {
                let message = "It has no address of a family that this node has: its pods cannot be reached".to_owned();
                out.issues.push(Issue { kind: "Node", key: key.clone(), reason: "NoCommonFamily", message });
            }
            continue;
        };
        let other = if tunnel == facts.own4() || tunnel == facts.own6() {
            Some(&*facts.name)
        } else {
            wanted.get(&tunnel).copied()
        };
        if let Some(other) = other {
            let message = format!("Address {tunnel} is node {other}'s already: pods of this node cannot be reached");
            out.issues.push(Issue { kind: "Node", key: key.clone(), reason: "AddressConflict", message });
        } else {
            wanted.insert(tunnel, &key.name);
        }
    }
    let fits = |to: &Addr| snapshot.paths.towards((*to).into(), Outer::overlay(to));
    let rows = slots::by(&slots.nodes, |row| row.tunnel);
    for (tunnel, name) in &wanted {
        let rows = rows.get(tunnel).map_or(&[][..], Vec::as_slice);
        if let Some((id, row)) = places.kept(rows, |row| row.flags & LOCAL == 0) {
            let (mtu, splits) = fits(tunnel);
            out.tables.nodes.insert(id, Node { mtu, flags: row.flags & !SPLITS | splits, ..*row });
            ids.insert(name, id);
        }
    }
    for (tunnel, name) in wanted {
        if ids.contains_key(name) {
            continue;
        }
        let Some((id, row)) = places.fresh(node_is_free) else {
            let (key, message) = (Key::cluster(name), "The table of nodes is full".to_owned());
            out.issues.push(Issue { kind: "Node", key, reason: "TableFull", message });
            continue;
        };
        let generation = row.map_or(1, |row| row.generation.wrapping_add(1));
        let (mtu, flags) = fits(&tunnel);
        out.tables.nodes.insert(id, Node { tunnel, generation, flags, mtu, ..Node::default() });
        ids.insert(name, id);
    }
    for (id, row) in &slots.nodes {
        let generation = if node_is_free(row) { row.generation } else { row.generation.wrapping_add(1) };
        out.tables.nodes.entry(*id).or_insert(Node { generation, ..Node::default() });
    }
    ids
}

fn routes(snapshot: &Snapshot, nodes: &BTreeMap<&str, NodeId>, out: &mut Compiled) {
    let facts = &snapshot.node;
    let rows = &mut out.tables.routes;
    for range in &facts.not_masqueraded {
        rows.insert(prefix(range), Route { node: 0, flags: NOT_MASQUERADED });
    }
    for range in &facts.cluster_cidrs {
        rows.insert(prefix(range), Route { node: 0, flags: CLUSTER_RANGE });
    }
    for range in &facts.service_cidrs {
        rows.insert(prefix(range), Route { node: 0, flags: SERVICE_RANGE });
    }
    for (key, node) in snapshot.nodes.iter() {
        let Some(id) = nodes.get(&*key.name) else { continue };
        for range in &node.pod_cidrs {
            let new = Route { node: *id, flags: 0 };
            if let Some(old) = rows.insert(prefix(range), new).filter(|old| old.node != 0 && old.node != *id) {
                rows.insert(prefix(range), old);
                let message = format!("Pod range {range} is another node's already");
                out.issues.push(Issue { kind: "Node", key: key.clone(), reason: "PodCIDRConflict", message });
            }
        }
        for ip in node.internal_ips.iter().chain(&*node.external_ips) {
            rows.insert(Prefix::host((*ip).into()), Route { node: *id, flags: NODE_ADDRESS });
        }
    }
    for address in facts.addresses.iter().chain(&facts.own) {
        let own = Prefix::host((*address).into());
        rows.insert(own, Route { node: LOCAL_NODE, flags: NODE_ADDRESS });
    }
}

fn prefix(range: &IpNetwork) -> Prefix {
    let len = u32::from(range.prefix()) + if range.is_ipv4() { 96 } else { 0 };
    Prefix { prefix_len: len, addr: masked(range.ip().into(), len) }
}

/// Rows of `PODS`, `POD`, `PEERS`, `CIDRS` and `POLICY`.
fn policies(snapshot: &Snapshot, slots: &Slots, out: &mut Compiled) {
    let attachments = &*snapshot.attachments;
    let known = |attachment: &Attachment| {
        // A runtime knows a static pod by the uid of its file, the API by that of its mirror.
        snapshot.pods.get(&attachment.pod).filter(|pod| pod.goes_by(&attachment.uid))
    };
    let known: Vec<Option<&Arc<objects::Pod>>> = attachments.iter().map(known).collect();
    let local: Vec<LocalPod> = attachments.iter().zip(&known).map(|(one, pod)| local_pod(one, *pod)).collect();
    let (pods, namespaces, policies) = (&*snapshot.pods, &*snapshot.namespaces, &*snapshot.policies);
    let compiled = policy::compile(&policy::Input { pods, namespaces, policies, local: &local });
    let tables = &mut out.tables;
    (tables.peers, tables.cidrs, tables.policy) = (compiled.peers, compiled.cidrs, compiled.rows);
    out.issues.extend(compiled.issues);
    (out.names.rules, out.names.sets) = (compiled.rules, compiled.sets);
    host(snapshot, slots, out);
    let ids = places(snapshot, slots, out);
    for (at, id) in ids {
        let (attachment, known) = (&attachments[at], known[at]);
        let policy = compiled.pods.get(&attachment.pod).filter(|_| known.is_some());
        let old = slots.pods.get(&id).filter(|row| is(row, attachment));
        let generation = old
            .map_or_else(|| slots.pods.get(&id).map_or(1, |row| row.generation.wrapping_add(1)), |row| row.generation);
        let (mut flags, limit) = limits(attachment, known.map(|pod| &**pod));
        if snapshot.foreign.contains_key(&attachment.ifindex) {
            flags |= QUEUED; // What others hang on the device is not gone around.
        }
        let (set, isolated) = policy.map_or((0, 0), |policy| (policy.set, policy.isolated));
        let row = Pod {
            addr4: of_family(&attachment.addresses, true),
            addr6: of_family(&attachment.addresses, false),
            ifindex: attachment.ifindex,
            generation,
            policy_set: [set; 2],
            isolated: [isolated; 2],
            mac: attachment.mac,
            flags: flags | if policy.is_some() { READY } else { 0 },
            limit,
            mtu: snapshot.paths.pods,
            ..Pod::default()
        };
        if policy.is_some() {
            out.ready.insert((attachment.container_id.clone(), attachment.ifname.clone()));
        }
        out.tables.pods.extend(attachment.addresses.iter().map(|ip| (Addr::from(*ip), id)));
        out.tables.pod.insert(id, row);
        out.names.pods.insert(id, attachment.pod.clone());
    }
    generations(slots, out);
}

/// Flags and bucket of a pod. An annotation that makes no sense was refused at ADD; one that came later changes nothing.
fn limits(attachment: &Attachment, pod: Option<&objects::Pod>) -> (u32, [u64; 2]) {
    let [ingress, egress] = attachment.wishes.rates(pod).unwrap_or(attachment.wishes.rates);
    let depth = |rate: Rate| rate.burst.saturating_mul(1_000_000_000) / rate.bytes.max(1);
    let queued = if ingress.is_some() { QUEUED } else { 0 };
    egress.map_or((queued, [0; 2]), |rate| (queued | EGRESS_LIMIT, [rate.bytes, depth(rate)]))
}

fn local_pod(attachment: &Attachment, known: Option<&Arc<objects::Pod>>) -> LocalPod {
    let uid = known.map_or_else(|| attachment.uid.clone(), |pod| pod.uid.clone());
    LocalPod { key: attachment.pod.clone(), uid, addresses: attachment.addresses.clone() }
}

fn is(row: &Pod, attachment: &Attachment) -> bool {
    let (addr4, addr6) = (of_family(&attachment.addresses, true), of_family(&attachment.addresses, false));
    row.ifindex == attachment.ifindex && row.addr4 == addr4 && row.addr6 == addr6
}

/// The node's own row: every address of the host, and host-network pods with it.
fn host(snapshot: &Snapshot, slots: &Slots, out: &mut Compiled) {
    let facts = &snapshot.node;
    let (addr4, addr6) = (facts.own4(), facts.own6());
    let old = slots.pods.get(&HOST);
    let same = |row: &&Pod| row.addr4 == addr4 && row.addr6 == addr6 && row.ifindex == facts.host_ifindex;
    let raised = old.map_or(1, |row| row.generation.wrapping_add(1));
    let generation = old.filter(same).map_or(raised, |row| row.generation);
    let mac = abi::config::GATEWAY_MAC;
    let row = Pod { addr4, addr6, ifindex: facts.host_ifindex, generation, mac, flags: READY, ..Pod::default() };
    out.tables.pod.insert(HOST, row);
    let all = facts.own.iter().chain(&facts.addresses);
    out.tables.pods.extend(all.map(|address| (Addr::from(*address), HOST)));
    if let Some(node) = snapshot.nodes.get(&Key::cluster(facts.name.clone())) {
        for ip in node.internal_ips.iter().chain(&*node.external_ips) {
            out.tables.pods.insert((*ip).into(), HOST);
        }
    }
}

/// Which attachment, by its place in the list, has which row of `POD`; rows that nobody has any more become free.
fn places(snapshot: &Snapshot, slots: &Slots, out: &mut Compiled) -> Vec<(usize, PodId)> {
    let mut places = Places::new(&slots.pods, HOST + 1, Table::Pod.spec().max_entries);
    let mut ids = Vec::new();
    let mut new = Vec::new();
    let rows = slots::by(&slots.pods, |row| row.ifindex);
    for (at, attachment) in snapshot.attachments.iter().enumerate() {
        let rows = rows.get(&attachment.ifindex).map_or(&[][..], Vec::as_slice);
        match places.kept(rows, |row| is(row, attachment)) {
            Some((id, _)) => ids.push((at, id)),
            None => new.push((at, attachment)),
        }
    }
    for (at, attachment) in new {
        if let Some((id, _)) = places.fresh(pod_is_free) {
            ids.push((at, id));
        } else {
            let (key, message) = (attachment.pod.clone(), "The table of this node's pods is full".to_owned());
            out.issues.push(Issue { kind: "Pod", key, reason: "TableFull", message });
        }
    }
    for (id, row) in slots.pods.iter().filter(|(id, _)| **id != HOST) {
        let generation = if pod_is_free(row) { row.generation } else { row.generation.wrapping_add(1) };
        out.tables.pod.entry(*id).or_insert(Pod { generation, ..Pod::default() });
    }
    ids
}

/// Raises the generation of pods whose rules, or the addresses that these mean, are not what they were.
fn generations(slots: &Slots, out: &mut Compiled) {
    let rules = slots::fingerprints(&out.tables, 0);
    for (id, row) in &mut out.tables.pod {
        let old = slots.pods.get(id).filter(|old| old.flags & READY != 0 && old.generation == row.generation);
        if old.is_some() && row.flags & READY != 0 && rules.get(id) != slots.rules.get(id) {
            row.generation = row.generation.wrapping_add(1);
        }
    }
}

/// Rows of `SERVICES`, `SLOTS` and `BACKENDS`.
fn services(
    snapshot: &Snapshot,
    slots: &Slots,
    (nodes, wanted): (&BTreeMap<&str, NodeId>, &proxy::Output),
    out: &mut Compiled,
) {
    let own = host_ports::own(&out.tables.pods);
    let wanted = host_ports::add(apiserver::keep(wanted, &slots.services), snapshot, &own);
    let lengths: BTreeSet<u32> = out.tables.routes.keys().map(|prefix| prefix.prefix_len).collect();
    let place = |backend: &proxy::BackendAddr, node: Option<&str>| {
        let pod = out.tables.pods.get(&backend.addr).copied().unwrap_or(abi::pod::NONE);
        let named = node.and_then(|name| nodes.get(name)).copied();
        (pod, named.unwrap_or_else(|| node_of(&out.tables, &lengths, backend.addr)))
    };
    let (next, overflow) = proxy::slots::assign(&slots.services, &wanted, proxy::slots::Capacity::default(), place);
    if overflow != proxy::slots::Overflow::default() {
        let key = Key::cluster(snapshot.node.name.clone());
        let (backends, ranges) = (overflow.backends, overflow.ranges);
        let message = format!("{backends} backends and {ranges} service ports do not fit into the tables");
        out.issues.push(Issue { kind: "Node", key, reason: "TableFull", message });
    }
    let tables = &mut out.tables;
    (tables.backends, tables.slots, tables.services) = (next.backends, next.slots, next.services);
    out.issues.extend(wanted.issues.iter().cloned());
    out.names.services = wanted.names.clone();
}

/// The node whose range or address holds `addr`, or 0. `lengths` are those that the routes have: a handful.
fn node_of(tables: &Tables, lengths: &BTreeSet<u32>, addr: Addr) -> NodeId {
    let route = |len: &u32| tables.routes.get(&Prefix { prefix_len: *len, addr: masked(addr, *len) });
    let row = lengths.iter().rev().find_map(route);
    row.map_or(0, |route| route.node)
}

#[cfg(test)]
mod tests;
