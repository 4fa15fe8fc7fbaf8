//! A pod's interface: made at CNI ADD, removed at DEL, found again after a restart.
//!
//! The order of ADD is its safety: the address is in the ledger before anything has it, the hooks are on the device
//! before it is up, and the answer comes when the pod's policy is in force. Until then its packets are dropped. Whatever
//! fails half-way is undone, and the runtime may try again.
use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use abi::{config::GATEWAY_MAC, event::Hook};
use ipnetwork::Ipv4Network;
use tokio::sync::watch;

use crate::{
    devices::quiet,
    engine::{InForce, Inbox},
    ipam::{Entry, IpamError, Ledger},
    load::{LoadError, Programs},
    netlink::{End, Link, Netlink, NetlinkError},
    netns::{self, NetnsError},
    snapshot::Attachment,
};

/// The pods' gateway: nobody's address, a permanent neighbour on every pod's interface.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Why a pod's interface cannot be made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The ledger.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// A request to the kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Inside the pod.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The hooks.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pod's namespace has an interface of that name which is not ours.
    #[error("the interface {0} exists in the pod's network namespace already")]
    InterfaceExists(String),
    /// Something of the pod's interface is missing.
    #[error("{0} of the pod's interface is missing")]
    Missing(&'static str),
    /// The policy is not in force in time.
    #[error("the pod's policy is not in force after {0:?}: {1}")]
    NotInForce(Duration, &'static str),
    /// The node has no range yet.
    #[error("the Node has no spec.podCIDR yet: the node IPAM controller has not given it one")]
    NoRange,
}

/// An interface as CNI tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// The host's end.
    pub device: String,
    /// Its MAC address.
    pub host_mac: [u8; 6],
    /// The pod's MAC address.
    pub mac: [u8; 6],
    /// MTU of both.
    pub mtu: u32,
    /// The pod's address.
    pub address: Ipv4Addr,
}

/// Makes and removes interfaces, one at a time.
pub struct Pods {
    netlink: Netlink,
    programs: Arc<Mutex<Programs>>,
    ledger: Mutex<Ledger>,
    inbox: Arc<Inbox>,
    in_force: watch::Receiver<InForce>,
    mtu: u32,
    /// One interface is made at a time; waiting for policy is not part of that.
    one: tokio::sync::Mutex<()>,
}

impl Pods {
    /// Takes over what an earlier agent left.
    pub fn new(
        netlink: Netlink,
        programs: Arc<Mutex<Programs>>,
        ledger: Ledger,
        inbox: Arc<Inbox>,
        in_force: watch::Receiver<InForce>,
        mtu: u32,
    ) -> Pods {
        Pods { netlink, programs, ledger: Mutex::new(ledger), inbox, in_force, mtu, one: tokio::sync::Mutex::new(()) }
    }

    /// After a start: interfaces whose host end is still there are known again, others give their address back.
    ///
    /// # Errors
    /// [`PodError`].
    pub async fn recover(&self) -> Result<usize, PodError> {
        let links = self.netlink.links().await?;
        let find = |entry: &Entry| links.iter().find(|link| link.name == entry.device);
        let gone = self.ledger().retain(|entry| find(entry).is_some())?;
        for entry in gone {
            tracing::info!(container = entry.container_id, address = %entry.address, "the interface is gone; its address is free");
            self.programs().forget(&entry.device)?;
        }
        let entries = self.ledger().entries().to_vec();
        for entry in &entries {
            let link = find(entry).expect("those without a device were dropped");
            self.inbox.attach(attachment(entry, link));
        }
        Ok(entries.len())
    }

    /// Gives every interface the hooks of this agent. After the first round: its tables come before its programs.
    ///
    /// # Errors
    /// [`LoadError::Attach`].
    pub fn attach_all(&self) -> Result<(), LoadError> {
        self.entries().iter().try_for_each(|entry| self.hooks(&entry.device))
    }

    /// Makes the interface, or finds it made, and waits until the pod's policy is in force.
    ///
    /// # Errors
    /// [`PodError`]; then nothing is left of it, unless it was there before.
    pub async fn add(&self, wanted: Entry, patience: Duration) -> Result<Made, PodError> {
        let (made, fresh) = {
            let _one = self.one.lock().await;
            let known = self.ledger().get(&wanted.container_id, &wanted.ifname).cloned();
            match known {
                Some(entry) if entry.netns == wanted.netns && self.check_entry(&entry).await.is_ok() => {
                    (self.made(&entry), false)
                }
                Some(entry) => {
                    self.undo(&entry).await?;
                    (self.make(&wanted).await?, true)
                }
                None => (self.make(&wanted).await?, true),
            }
        };
        if let Err(error) = self.wait(&wanted, patience).await {
            if fresh {
                self.remove(&wanted.container_id, &wanted.ifname).await?;
            }
            return Err(error);
        }
        Ok(made)
    }

    /// Removes the interface; no error if it is not there, or its namespace is gone.
    ///
    /// # Errors
    /// [`PodError`]; then it can be tried again.
    pub async fn remove(&self, container_id: &str, ifname: &str) -> Result<(), PodError> {
        let _one = self.one.lock().await;
        let entry = self.ledger().get(container_id, ifname).cloned();
        match entry {
            Some(entry) => self.undo(&entry).await,
            None => Ok(()),
        }
    }

    /// Removes every interface but those that `keep` names.
    ///
    /// # Errors
    /// [`PodError`] of the first that cannot be removed.
    pub async fn collect(&self, keep: impl Fn(&Entry) -> bool) -> Result<(), PodError> {
        let gone: Vec<Entry> = self.ledger().entries().iter().filter(|entry| !keep(entry)).cloned().collect();
        for entry in gone {
            self.remove(&entry.container_id, &entry.ifname).await?;
        }
        Ok(())
    }

    /// Whether everything that ADD made is still there.
    ///
    /// # Errors
    /// [`PodError::Missing`] and others.
    pub async fn check(&self, container_id: &str, ifname: &str) -> Result<Made, PodError> {
        let entry = self.ledger().get(container_id, ifname).cloned().ok_or(PodError::Missing("the ledger's entry"))?;
        self.check_entry(&entry).await?;
        Ok(self.made(&entry))
    }

    /// Everyone who has an address.
    pub fn entries(&self) -> Vec<Entry> {
        self.ledger().entries().to_vec()
    }

    /// The node's range of pod addresses.
    ///
    /// # Errors
    /// [`PodError::NoRange`].
    pub fn range(&self) -> Result<Ipv4Network, PodError> {
        let state = self.inbox.snapshot();
        let node = state.nodes.get(&objects::Key::cluster(state.node.name.clone()));
        let ranges = node.into_iter().flat_map(|node| node.pod_cidrs.iter());
        ranges
            .filter_map(|range| if let ipnetwork::IpNetwork::V4(v4) = range { Some(*v4) } else { None })
            .next()
            .ok_or(PodError::NoRange)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no holder panics")
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, Programs> {
        self.programs.lock().expect("no holder panics")
    }

    fn hooks(&self, device: &str) -> Result<(), LoadError> {
        let mut programs = self.programs();
        programs.attach(Hook::FromPod, device)?;
        programs.attach(Hook::ToPod, device)
    }

    fn made(&self, entry: &Entry) -> Made {
        let (mac, address) = (pod_mac(entry.address), entry.address);
        Made { device: entry.device.clone(), host_mac: GATEWAY_MAC, mac, mtu: self.mtu, address }
    }

    async fn make(&self, wanted: &Entry) -> Result<Made, PodError> {
        let netns = netns::open(Path::new(&wanted.netns))?;
        let device = device_name(&wanted.container_id, &wanted.ifname);
        let entry = self.ledger().take(self.range()?, Entry { device, ..wanted.clone() })?;
        match self.build(&entry, &netns).await {
            Ok(link) => {
                self.inbox.attach(attachment(&entry, &link));
                Ok(self.made(&entry))
            }
            Err(error) => {
                self.undo(&entry).await?;
                Err(error)
            }
        }
    }

    async fn build(&self, entry: &Entry, netns: &std::fs::File) -> Result<Link, PodError> {
        use std::os::fd::AsFd;
        // Left by an agent that was killed between the device and here.
        self.netlink.remove(&entry.device).await?;
        self.programs().forget(&entry.device)?;
        let near = End { name: &entry.device, mac: GATEWAY_MAC };
        let far = End { name: &entry.ifname, mac: pod_mac(entry.address) };
        match self.netlink.add_pair(near, far, self.mtu, Some(netns.as_fd())).await {
            Err(error) if error.exists() => return Err(PodError::InterfaceExists(entry.ifname.clone())),
            other => other?,
        }
        let link = self.netlink.link(&entry.device).await?.ok_or(PodError::Missing("the host's end"))?;
        quiet(&link.name);
        self.hooks(&entry.device)?;
        let (ifname, address) = (entry.ifname.clone(), entry.address);
        netns::within(Path::new(&entry.netns), move |netlink| inside(netlink, ifname, address)).await?;
        self.netlink.set_up(&link).await?;
        Ok(link)
    }

    async fn undo(&self, entry: &Entry) -> Result<(), PodError> {
        self.netlink.remove(&entry.device).await?;
        self.programs().forget(&entry.device)?;
        self.inbox.detach(&entry.container_id, &entry.ifname);
        self.ledger().retain(|other| !other.is(&entry.container_id, &entry.ifname))?;
        Ok(())
    }

    async fn check_entry(&self, entry: &Entry) -> Result<(), PodError> {
        let link = self.netlink.link(&entry.device).await?.filter(|link| link.up);
        link.ok_or(PodError::Missing("the host's end"))?;
        let (ifname, address) = (entry.ifname.clone(), entry.address);
        let there = netns::within(Path::new(&entry.netns), move |netlink| async move {
            match netlink.link(&ifname).await? {
                Some(link) => Ok(netlink.has_address(&link, address).await?),
                None => Ok(false),
            }
        });
        if there.await? { Ok(()) } else { Err(PodError::Missing("the address")) }
    }

    async fn wait(&self, entry: &Entry, patience: Duration) -> Result<(), PodError> {
        let mut in_force = self.in_force.clone();
        let ready = in_force.wait_for(|state| state.is_ready(&entry.container_id, &entry.ifname));
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(PodError::NotInForce(patience, "the agent is going down")),
            Err(_) => Err(PodError::NotInForce(patience, self.why_not(entry))),
        }
    }

    fn why_not(&self, entry: &Entry) -> &'static str {
        let pods = self.inbox.snapshot().pods;
        match pods.get(&objects::Key::new(entry.namespace.as_str(), entry.name.as_str())) {
            None => "the API server has not told of this pod",
            Some(pod) if !entry.uid.is_empty() && *pod.uid != *entry.uid => {
                "the API server tells of another pod of that name (its uid differs)"
            }
            Some(_) => "the tables could not be written in time",
        }
    }
}

/// What is done inside the pod: loopback, address, gateway.
async fn inside(netlink: Netlink, ifname: String, address: Ipv4Addr) -> Result<(), NetnsError> {
    if let Some(lo) = netlink.link("lo").await? {
        netlink.set_up(&lo).await?;
    }
    let gone = || NetlinkError {
        operation: "find the device",
        object: ifname.clone(),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    };
    let link = netlink.link(&ifname).await?.ok_or_else(gone)?;
    silence(&ifname);
    netlink.add_address(&link, address, 32).await?;
    netlink.set_up(&link).await?;
    netlink.set_neighbour(&link, GATEWAY, GATEWAY_MAC).await?;
    let all = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 bits");
    netlink.set_route(&link, Ipv4Network::from(GATEWAY), None, None).await?;
    netlink.set_route(&link, all, Some(GATEWAY), Some(address)).await?;
    Ok(())
}

/// IPv6's own chatter (router solicitations, multicast reports) would only be dropped: the pod has no such address.
/// Best effort; `/proc/sys/net` shows the namespace of the thread that looks.
fn silence(ifname: &str) {
    if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6"), "1") {
        tracing::debug!(ifname, %error, "IPv6 cannot be switched off on a pod's interface");
    }
}

fn attachment(entry: &Entry, link: &Link) -> Attachment {
    Attachment {
        container_id: entry.container_id.as_str().into(),
        ifname: entry.ifname.as_str().into(),
        pod: objects::Key::new(entry.namespace.as_str(), entry.name.as_str()),
        uid: entry.uid.as_str().into(),
        address: entry.address,
        ifindex: link.index,
        mac: pod_mac(entry.address),
    }
}

/// Locally administered, and the same for the same address.
fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// Name of the host's end: `weft` and eight digits of what makes the interface unique.
fn device_name(container_id: &str, ifname: &str) -> String {
    format!("weft{:08x}", objects::content::hash(&format!("{container_id} {ifname}"), 0) as u32)
}
