//! `weft status` and the reasons why a node is not ready.
use agent_api::v1::{
    StatusReply,
    status_reply::{Device, Hook, Issue, Table as TableRow, Watch},
};
use objects::Key;

use crate::{Shared, devices, ipam, tables::Table};

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
    let mut reply = StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: shared.args.node_name.clone(),
        kernel: kernel(),
        tables: tables(shared, &in_force.tables),
        watches: watches(shared, &snapshot),
        issues: issues(shared),
        ready: shared.not_ready().is_empty(),
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
        reply.pod_mtu = devices.pod_mtu;
        reply.pods = u32::try_from(started.pods.entries().len()).unwrap_or(u32::MAX);
        reply.addresses_used = reply.pods;
        reply.addresses_total = started.pods.ranges().map_or(0, |ranges| ipam::capacity(&ranges));
        let programs = started.programs.lock().expect("no holder panics");
        reply.attach = programs.kind().to_owned();
        let hooks = programs.attached().into_iter().map(|(program, device)| Hook { program, device });
        reply.hooks = hooks.collect();
        reply.hooks.sort_by(|a, b| (&a.device, &a.program).cmp(&(&b.device, &b.program)));
    }
    reply
}

fn tables(shared: &Shared, tables: &crate::tables::Tables) -> Vec<TableRow> {
    let row = |name: &str, used, max| TableRow { name: name.to_owned(), used, max };
    let mut rows: Vec<TableRow> = Table::ALL
        .iter()
        .map(|table| row(table.spec().name, tables.len(*table) as u32, table.spec().max_entries))
        .collect();
    if let Some([established, half_open]) = shared.started.get().and_then(|started| started.flows.counts().ok()) {
        rows.push(row(abi::map::FLOWS.name, established, abi::map::FLOWS.max_entries));
        rows.push(row(abi::map::HALFOPEN.name, half_open, abi::map::HALFOPEN.max_entries));
    }
    rows
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
