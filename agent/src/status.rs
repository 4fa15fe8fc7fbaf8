//! `weft status` and the reasons why a node is not ready.
use agent_api::v1::{
    StatusReply,
    status_reply::{Addresses, Device, Hook, Issue, Peer, Table as TableRow, Timeout as TimeoutRow, Watch},
};
use objects::Key;

use abi::{map, service::ALIVE, timeout::Timeout};

use crate::{
    Shared,
    args::Encapsulation,
    devices,
    engine::InForce,
    ipam, slots,
    tables::{Table, Tables},
};

impl Shared {
    /// Why the node's network is not ready; empty if it is.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons: Vec<String> = Vec::new();
        for (kind, state) in self.board.states().iter().filter(|(_, state)| !state.synced) {
            let why = if state.error.is_empty() { String::new() } else { format!(": {}", state.error) };
            reasons.push(format!("the {kind} objects have not been read yet{why}"));
        }
        reasons.extend(self.waiting_for.lock().expect("no holder panics").clone());
        let in_force = self.in_force.borrow();
        if in_force.rounds == 0 && !in_force.fault.is_empty() {
            reasons.push(in_force.fault.clone());
        }
        if self.started.get().is_none() && reasons.is_empty() {
            reasons.push("the programs are being loaded".to_owned());
        }
        reasons
    }
}

/// The whole status.
pub fn status(shared: &Shared) -> StatusReply {
    let in_force = shared.in_force.borrow().clone();
    let snapshot = shared.inbox.snapshot();
    let reasons = shared.not_ready();
    let mut reply = StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: shared.args.node_name.clone(),
        kernel: kernel(),
        tables: tables(shared, &in_force.tables),
        watches: watches(shared, &snapshot),
        issues: issues(shared),
        ready: reasons.is_empty(),
        reasons,
        flow_events: shared.args.flow_events,
        timeouts: timeouts(shared),
        flows_per_pod: shared.args.flows_per_pod(),
        routing: shared.args.routing.name().to_owned(),
        accept_native: shared.args.accept_native,
        peers: peers(&in_force),
        epoch: in_force.tables.epoch(),
        rounds: in_force.rounds,
        last_round_micros: u64::try_from(in_force.took.as_micros()).unwrap_or(u64::MAX),
        ..StatusReply::default()
    };
    let key = Key::cluster(shared.args.node_name.as_str());
    if let Some(node) = snapshot.nodes.get(&key) {
        reply.pod_cidrs = node.pod_cidrs.iter().map(ToString::to_string).collect();
    }
    if let Some(started) = shared.started.get() {
        let devices = started.devices.read().expect("no holder panics");
        let nic = &devices.nic;
        reply.device = Some(Device {
            name: nic.name.clone(),
            ifindex: nic.index,
            mtu: nic.mtu,
            address: snapshot.node.own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            reason: devices.reason.clone(),
        });
        (reply.encapsulation, reply.encapsulation_reason) = encapsulation(shared, &devices);
        reply.other_devices = devices.others.iter().map(other).collect();
        reply.pod_mtu = devices.pod_mtu;
        let (entries, ranges) = (started.pods.entries(), started.pods.ranges().unwrap_or_default());
        reply.pods = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        reply.addresses_used = reply.pods;
        reply.addresses_total = ipam::capacity(&ranges);
        reply.addresses = ipam::use_of(&ranges, &entries).into_iter().map(addresses).collect();
        let programs = started.programs.lock().expect("no holder panics");
        reply.attach = programs.kind().to_owned();
        reply.attach_pods = programs.kind_of_pods().to_owned();
        let hooks = programs.attached().into_iter().map(|(program, device)| Hook { program, device });
        reply.hooks = hooks.collect();
        reply.hooks.sort_by(|a, b| (&a.device, &a.program).cmp(&(&b.device, &b.program)));
    }
    reply
}

/// Which back end of the overlay is in force, and why.
fn encapsulation(shared: &Shared, devices: &devices::Devices) -> (String, String) {
    let (nic, vxlan) = (&devices.nic.name, &devices.vxlan.name);
    let (word, what) = match shared.args.overlay_encapsulation {
        Encapsulation::Program => {
            ("program", format!("programs write the outer header and send by {nic}; {vxlan} takes what they cannot"))
        }
        Encapsulation::Device => ("device", format!("{vxlan} writes the outer header")),
    };
    (word.to_owned(), format!("--overlay-encapsulation {word}: {what}"))
}

fn timeouts(shared: &Shared) -> Vec<TimeoutRow> {
    let row =
        |timeout: Timeout| TimeoutRow { name: timeout.name().to_owned(), seconds: shared.timeouts.seconds(timeout) };
    Timeout::ALL.map(row).into()
}

fn other(device: &devices::Other) -> Device {
    let list: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    Device {
        name: device.link.name.clone(),
        ifindex: device.link.index,
        mtu: device.link.mtu,
        address: list.join(", "),
        reason: device.reason.clone(),
    }
}

/// How other nodes are reached: what the tables in force say.
fn peers(in_force: &InForce) -> Vec<Peer> {
    let compiled = &in_force.compiled;
    let peer = |((id, v4), way): (&(abi::route::NodeId, bool), &crate::compile::Way)| Peer {
        node: compiled.names.nodes.get(id).map(ToString::to_string).unwrap_or_default(),
        family: if *v4 { "ipv4" } else { "ipv6" }.to_owned(),
        way: if way.next.is_some() { "native" } else { "vxlan" }.to_owned(),
        via: way
            .next
            .or(in_force.tables.nodes.get(id).map(|row| row.tunnel))
            .map(|ip| ip.to_string())
            .unwrap_or_default(),
        takes_native: way.takes,
        reason: way.reason.clone(),
    };
    let mut peers: Vec<Peer> = compiled.ways.iter().map(peer).collect();
    peers.sort_by(|a, b| (&a.node, &a.family).cmp(&(&b.node, &b.family)));
    peers
}

fn addresses((range, used, capacity): (ipnetwork::IpNetwork, u64, u64)) -> Addresses {
    let family = if range.is_ipv4() { "ipv4" } else { "ipv6" };
    Addresses { family: family.to_owned(), range: range.to_string(), used, capacity }
}

fn tables(shared: &Shared, tables: &Tables) -> Vec<TableRow> {
    let sizes = crate::load::pins::Sizes::new(&shared.args.table_rows);
    let row = |spec: &map::MapSpec, used| TableRow { name: spec.name.to_owned(), used, max: sizes.of(spec) };
    // `CONFIG` is one row, always there.
    let filling = Table::ALL.iter().filter(|table| **table != Table::Config);
    let mut rows: Vec<TableRow> = filling.map(|table| row(table.spec(), in_use(tables, *table) as u32)).collect();
    if let Some(counts) = shared.started.get().and_then(|started| started.flows.counts().ok()) {
        rows.extend([map::FLOWS, map::HALFOPEN, map::FRAGS].iter().zip(counts).map(|(spec, used)| row(spec, used)));
    }
    rows
}

/// Rows that leave no room for others: an array's row that is free again still has its generation.
fn in_use(tables: &Tables, table: Table) -> usize {
    match table {
        Table::Pod => tables.pod.values().filter(|row| !slots::pod_is_free(row)).count(),
        Table::Nodes => tables.nodes.values().filter(|row| !slots::node_is_free(row)).count(),
        Table::Backends => tables.backends.values().filter(|row| row.flags & ALIVE != 0).count(),
        other => tables.len(other),
    }
}

fn watches(shared: &Shared, snapshot: &crate::snapshot::Snapshot) -> Vec<Watch> {
    let count = |kind: &str| match kind {
        "Node" => snapshot.nodes.len(),
        "Namespace" => snapshot.namespaces.len(),
        "Pod" => snapshot.pods.len(),
        "NetworkPolicy" => snapshot.policies.len(),
        "Service" => snapshot.services.len(),
        _ => snapshot.slices.len(),
    };
    let watch = |(kind, state): (&'static str, crate::watch::WatchState)| Watch {
        kind: kind.to_owned(),
        synced: state.synced,
        objects: count(kind) as u32,
        error: state.error,
    };
    shared.board.states().into_iter().map(watch).collect()
}

fn issues(shared: &Shared) -> Vec<Issue> {
    let in_force = shared.in_force.borrow();
    let issue = |kind: &str, key: &Key, message: String| Issue {
        kind: kind.to_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        message,
    };
    let node = Key::cluster(shared.args.node_name.as_str());
    let mut issues: Vec<Issue> = in_force
        .compiled
        .issues
        .iter()
        .map(|found| issue(found.kind, &found.key, format!("{}: {}", found.reason, found.message)))
        .collect();
    issues.extend(
        devices::problems(&shared.inbox.snapshot().node.own).into_iter().map(|problem| issue("Node", &node, problem)),
    );
    if !in_force.fault.is_empty() {
        issues.push(issue("Node", &node, in_force.fault.clone()));
    }
    issues
}

fn kernel() -> String {
    nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}
