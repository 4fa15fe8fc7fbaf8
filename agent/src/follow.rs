//! The node's devices and addresses as they change: what the kernel tells over rtnetlink is looked at anew.
//!
//! Addresses of the host go into the tables, the NIC's MTU goes onto our devices and the pods'. A NIC that is another one
//! than at the start, and a node whose address is another, need programs with other settings: the agent says so and ends,
//! and whoever keeps it starts one that reads them afresh. Traffic goes on meanwhile.
use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::StreamExt;
use objects::{Node, Store};

use crate::{
    Shared, Started,
    devices::{self, Devices},
    engine::InForce,
    netlink::{self, Netlink, NetlinkError},
    routing::{self, Routing},
    snapshot::NodeFacts,
};

/// Changes come in bursts: a device that comes up tells several times.
const GATHER: Duration = Duration::from_millis(200);
/// Also without being told: the kernel drops messages for a listener that is slow.
const ANYWAY: Duration = Duration::from_secs(60);

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
    let args = &shared.args;
    let mut changes = netlink::changes(args.routing != Routing::Vxlan || args.accept_native)?;
    let mut nodes = Nodes { in_force: shared.in_force.clone(), known: shared.inbox.snapshot().nodes };
    loop {
        tokio::select! {
            // The end of the stream is the end of its socket: then the clock and the objects are left.
            Some(()) = changes.next() => {}
            () = nodes.change(shared) => {}
            () = tokio::time::sleep(ANYWAY) => {}
        }
        tokio::time::sleep(GATHER).await;
        while let Ok(Some(())) = tokio::time::timeout(Duration::ZERO, changes.next()).await {}
        if let Some(started) = shared.started.get() {
            look(shared, started, &netlink).await?;
        }
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

async fn look(shared: &Shared, started: &Started, netlink: &Netlink) -> Result<(), FollowError> {
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
            mtu(shared, started, netlink, Devices { nic, others, ..devices }).await;
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

/// Our devices and the pods' get what the NIC leaves them.
async fn mtu(shared: &Shared, started: &Started, netlink: &Netlink, devices: Devices) {
    let facts = shared.inbox.snapshot().node;
    let pod_mtu = devices::pod_mtu(&devices.nic, &facts.own);
    if pod_mtu != devices.pod_mtu {
        tracing::info!(nic = devices.nic.mtu, pods = pod_mtu, "the MTU of the node's network device has changed");
        for link in [&devices.host, &devices.net, &devices.vxlan] {
            if let Err(error) = netlink.set_mtu(link, pod_mtu).await {
                tracing::warn!(error = crate::chain(&error), "the MTU of our own device cannot be changed");
            }
        }
        started.pods.set_mtu(pod_mtu).await;
    }
    *started.devices.write().expect("no holder panics") = Devices { pod_mtu, ..devices };
}
