//! The node's devices and addresses as they change: what the kernel tells over rtnetlink is looked at anew.
//!
//! Addresses of the host go into the tables; what the NIC and the routes to other nodes leave goes onto our devices and the
//! pods' as their MTU, which their routes take from them. A NIC that is another one
//! than at the start, and a node whose address is another, need programs with other settings: the agent says so and ends,
//! and whoever keeps it starts one that reads them afresh. Traffic goes on meanwhile.
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use objects::{Node, Store};

use crate::{
    Shared, Started,
    devices::{self, Devices},
    engine::InForce,
    mtu::{self, Paths, Peer},
    netlink::{self, Netlink, NetlinkError},
    routing,
    snapshot::{NodeFacts, Snapshot},
};

/// Changes come in bursts: a device that comes up tells several times.
const GATHER: Duration = Duration::from_millis(200);
/// Also without being told: the kernel drops messages for a listener that is slow.
const ANYWAY: Duration = Duration::from_secs(60);
/// Where something could not be looked at yet.
const SOON: Duration = Duration::from_secs(1);

/// What the agent cannot follow while it runs.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The NIC was made anew, or the node's address moved to another one.
    #[error("the node's network device was {was} and is {now}: the agent starts afresh")]
    OtherDevice {
        /// Name and index at the start.
        was: String,
        /// And now.
        now: String,
    },
    /// The node's own address changed in its Node object.
    #[error("the node's addresses were {was:?} and its Node says {now:?}: the agent starts afresh")]
    OtherAddress {
        /// At the start.
        was: Vec<IpAddr>,
        /// And now.
        now: Vec<IpAddr>,
    },
    /// There is no socket to be told by.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Follows for ever.
///
/// # Errors
/// [`FollowError`]: a fresh start is needed.
pub async fn run(shared: &Arc<Shared>) -> Result<(), FollowError> {
    let netlink = Netlink::open()?;
    let mut changes = netlink::changes()?;
    let mut underlay = Underlay::default();
    let mut nodes = Nodes { in_force: shared.in_force.clone(), known: shared.inbox.snapshot().nodes };
    loop {
        if let Some(started) = shared.started.get() {
            look(shared, started, &netlink, &mut underlay).await?;
        }
        tokio::select! {
            // The end of the stream is the end of its socket: then the clock and the objects are left.
            Some(()) = changes.next() => {}
            () = nodes.change(shared) => {}
            () = tokio::time::sleep(underlay.patience(shared)) => {}
        }
        tokio::time::sleep(GATHER).await;
        while let Ok(Some(())) = tokio::time::timeout(Duration::ZERO, changes.next()).await {}
    }
}

/// What was read of the routes to other nodes. Their number is the cluster's, so reading takes at most a fiftieth of the time.
#[derive(Default)]
struct Underlay {
    peers: Vec<Peer>,
    nic: u32,
    read: Option<(Instant, Duration)>,
    owed: bool,
}

impl Underlay {
    fn patience(&self, shared: &Shared) -> Duration {
        if self.owed || shared.started.get().is_none() { SOON } else { ANYWAY }
    }

    fn is_due(&self, peers: &[Peer], nic: u32) -> bool {
        let rested = self.read.is_none_or(|(at, took)| at.elapsed() >= 50 * took);
        rested || self.peers != peers || self.nic != nic
    }
}

/// The Node objects as they were looked at last.
struct Nodes {
    in_force: tokio::sync::watch::Receiver<InForce>,
    known: Arc<Store<Node>>,
}

impl Nodes {
    /// Returns when they are others: every change of an object makes a round.
    async fn change(&mut self, shared: &Shared) {
        loop {
            let now = shared.inbox.snapshot().nodes;
            if !Arc::ptr_eq(&now, &self.known) {
                self.known = now;
                return;
            }
            if self.in_force.changed().await.is_err() {
                std::future::pending::<()>().await; // The engine has ended, and whoever waits for it says so.
            }
        }
    }
}

fn peers(snapshot: &Snapshot) -> Vec<Peer> {
    mtu::peers(&snapshot.node.own, &snapshot.node.name, &snapshot.nodes, snapshot.node.routing)
}

async fn look(
    shared: &Shared,
    started: &Started,
    netlink: &Netlink,
    underlay: &mut Underlay,
) -> Result<(), FollowError> {
    let facts = shared.inbox.snapshot().node;
    let now = shared.own_addresses();
    if !now.is_empty() && now != facts.own {
        return Err(FollowError::OtherAddress { was: facts.own.clone(), now });
    }
    match netlink.addresses().await {
        Ok(now) => addresses(shared, &facts, now),
        Err(error) => tracing::warn!(error = crate::chain(&error), "the host's addresses cannot be read"),
    }
    let devices = started.devices.read().expect("no holder panics").clone();
    match devices::nic(netlink, &shared.args.device, &facts.own).await {
        Ok((nic, _)) if nic.index != devices.nic.index => {
            let text = |name: &str, index: u32| format!("{name} (number {index})");
            let (was, now) = (text(&devices.nic.name, devices.nic.index), text(&nic.name, nic.index));
            Err(FollowError::OtherDevice { was, now })
        }
        Ok((nic, _)) => {
            routing::look(shared, netlink, &nic).await;
            let others = devices::others(netlink, &nic, &shared.args.device, &facts.own).await;
            let others = others.unwrap_or_else(|_| devices.others.clone());
            sizes(shared, started, netlink, (Devices { nic, others, ..devices }, underlay)).await;
            Ok(())
        }
        // It is away for now, as while it is configured anew; the kernel tells when it is back.
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "the node's network device is away");
            Ok(())
        }
    }
}

fn addresses(shared: &Shared, facts: &NodeFacts, now: Vec<IpAddr>) {
    if facts.addresses != now {
        tracing::info!(addresses = ?now, "the host's addresses have changed");
        shared.inbox.change(|state| state.node = Arc::new(NodeFacts { addresses: now, ..(*state.node).clone() }));
    }
}

/// Our devices and the pods' get what the underlay leaves them.
async fn sizes(shared: &Shared, started: &Started, netlink: &Netlink, (devices, underlay): (Devices, &mut Underlay)) {
    let snapshot = shared.inbox.snapshot();
    let peers = peers(&snapshot);
    underlay.owed = !underlay.is_due(&peers, devices.nic.mtu);
    if underlay.owed {
        *started.devices.write().expect("no holder panics") = devices;
        return;
    }
    let begun = Instant::now();
    let paths = match mtu::routes::read(netlink, &devices.nic, &snapshot, shared.args.mtu).await {
        Ok(paths) => paths,
        Err(error) => {
            tracing::warn!(error = crate::chain(&error), "the routes to other nodes cannot be read");
            return;
        }
    };
    *underlay = Underlay { peers, nic: devices.nic.mtu, read: Some((begun, begun.elapsed())), owed: false };
    let pod_mtu = paths.pods;
    if pod_mtu != devices.pod_mtu {
        tracing::info!(nic = devices.nic.mtu, pods = pod_mtu, "the MTU that the underlay leaves has changed");
        for link in [&devices.host, &devices.net, &devices.vxlan] {
            if let Err(error) = netlink.set_mtu(link, pod_mtu).await {
                tracing::warn!(error = crate::chain(&error), "the MTU of our own device cannot be changed");
            }
        }
    }
    let larger = started.pods.fit(pod_mtu).await;
    *started.devices.write().expect("no holder panics") = Devices { pod_mtu, ..devices };
    let paths = Paths { larger, ..paths };
    let known = shared.inbox.snapshot().paths;
    let mut now = paths.clone();
    now.remember(&known);
    if *known != now {
        shared.inbox.change(|state| {
            now.remember(&state.paths); // What was measured meanwhile.
            state.paths = Arc::new(now);
        });
    }
}
