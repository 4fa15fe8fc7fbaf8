//! The node daemon: it watches the API server, compiles objects into tables, and keeps the kernel's as they should be.
//!
//! `watch` → `compile` → `diff` → `apply` (design section 4), driven by `engine`; around it the node's devices, the pods'
//! interfaces behind CNI, the programs' loading, and what people ask. The datapath needs none of this to go on: when
//! the agent dies, no traffic changes, and the next one takes over what it finds.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, RwLock},
};

use tokio::sync::{broadcast, watch as latest};

pub mod answers;
pub mod apply;
pub mod args;
pub mod bandwidth;
pub mod cleanup;
pub mod cni;
pub mod compile;
pub mod condition;
pub mod conflist;
pub mod devices;
pub mod diff;
pub mod engine;
pub mod events;
pub mod flows;
pub mod follow;
pub mod foreign;
pub mod http;
pub mod ipam;
pub mod issues;
pub mod leaks;
pub mod listeners;
pub mod load;
pub mod memory;
pub mod metrics;
pub mod mtu;
pub mod names;
pub mod netlink;
pub mod netns;
pub mod pods;
pub mod preflight;
pub mod routing;
mod run;
pub mod slots;
pub mod snapshot;
mod socket;
pub mod status;
pub mod tables;
mod takeover;
pub mod text;
pub mod watch;

pub use args::Args;
pub use run::{RunError, run};

/// What the parts of the agent share.
pub struct Shared {
    /// The command line.
    pub args: Args,
    /// How long flows live, as the command line says.
    pub timeouts: abi::timeout::Timeouts,
    /// Objects and facts.
    pub inbox: Arc<engine::Inbox>,
    /// How the watches are.
    pub board: Arc<watch::Board>,
    /// What is in force.
    pub in_force: latest::Receiver<engine::InForce>,
    /// The datapath's events.
    pub events: broadcast::Sender<agent_api::v1::Event>,
    /// Who listens to new flows.
    pub listeners: listeners::Listeners,
    /// Whose an address is.
    pub addresses: names::Addresses,
    /// What the sweep for leaks has freed.
    pub leaks: leaks::Freed,
    /// What the start waits for, in words.
    pub waiting_for: Mutex<Vec<String>>,
    /// What there is once hooks are attached and the first full set of tables is in force.
    pub started: OnceLock<Started>,
    devices: Mutex<BTreeMap<u32, String>>,
}

/// What there is once the node's network is ready.
pub struct Started {
    /// The node's devices, followed as they change.
    pub devices: RwLock<devices::Devices>,
    /// The programs.
    pub programs: Arc<Mutex<load::Programs>>,
    /// The pods' interfaces.
    pub pods: pods::Pods,
    /// The flow tables.
    pub flows: flows::Flows,
    /// Flow tables that are kept for an earlier version: from where, to where.
    pub hand_over: Option<[std::path::PathBuf; 2]>,
    /// `COUNTERS`.
    pub counters: apply::syscall::RawMap,
}

impl Shared {
    /// The address of each family of this node's Node object, its first one first; none if it has none yet.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let nodes = self.inbox.snapshot().nodes;
        let node = nodes.get(&objects::Key::cluster(self.args.node_name.as_str()));
        node.map(|node| snapshot::one_of_each(&node.internal_ips)).unwrap_or_default()
    }

    /// Name of a device; its number if it is gone.
    pub fn device_name(&self, index: u32) -> String {
        let mut known = self.devices.lock().expect("no holder panics");
        if let Some(name) = known.get(&index) {
            return name.clone();
        }
        match nix::net::if_::if_indextoname(index).ok().and_then(|name| name.into_string().ok()) {
            Some(name) => known.entry(index).or_insert(name).clone(),
            None => index.to_string(),
        }
    }
}

/// An error and what is behind it, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        // Some libraries repeat their source's words.
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        next = error.source();
    }
    text
}
