//! A pod's interface: made at CNI ADD, removed at DEL, found again after a restart.
//!
//! The order of ADD is its safety: the address is in the ledger before anything has it, the hooks are on the device
//! before it is up, and the answer comes when the pod's policy is in force. Until then its packets are dropped. Whatever
//! fails half-way is undone, and the runtime may try again.
use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use abi::{config::GATEWAY_MAC, event::Hook};
use ipnetwork::IpNetwork;
use tokio::sync::watch;

use crate::{
    engine::{InForce, Inbox},
    ipam::{Entry, Ledger},
    load::{LoadError, Programs},
    netlink::{Link, Netlink, departure},
    netns,
    snapshot::Attachment,
};

mod build;
mod error;
mod interface;
pub mod leftovers;
mod size;
mod wishes;

pub use error::PodError;
pub use interface::{gateway, is_device};

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
    /// The pod's addresses, one per family.
    pub addresses: Vec<IpAddr>,
}

/// Whether a packet can have gone by an interface: then its addresses rest when it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It was never whole.
    Never,
    /// Its policy never was in force: the hooks dropped whatever came, unless that changed at the last moment.
    Hardly,
    /// It was a pod's.
    Maybe,
}

/// Interfaces that are made at once. With two, one often keeps a processor busy to get the lock that the other has while it waits
/// for a grace period, and the plugins' own starts would have had it.
const TURNS: usize = 1;

/// Container id and interface.
type Interface = (String, String);

/// Makes and removes interfaces.
pub struct Pods {
    netlink: Netlink,
    programs: Arc<Mutex<Programs>>,
    ledger: Mutex<Ledger>,
    inbox: Arc<Inbox>,
    in_force: watch::Receiver<InForce>,
    mtu: AtomicU32,
    /// One call at a time about one interface; waiting for policy is not part of that.
    held: Mutex<BTreeMap<Interface, Arc<tokio::sync::Mutex<()>>>>,
    /// Who makes a device: the kernel makes one at a time, and whoever waits for its lock to write a setting keeps a
    /// processor busy.
    turns: tokio::sync::Semaphore,
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
        let (ledger, mtu, held) = (Mutex::new(ledger), AtomicU32::new(mtu), Mutex::default());
        let turns = tokio::sync::Semaphore::new(TURNS);
        Pods { netlink, programs, ledger, inbox, in_force, mtu, held, turns }
    }

    /// Gives every interface the hooks of this agent. After the first round: its tables come before its programs.
    ///
    /// # Errors
    /// [`LoadError::Attach`].
    pub fn attach_all(&self) -> Result<(), LoadError> {
        self.entries().iter().try_for_each(|entry| self.hooks(&entry.device))
    }

    /// Makes the interface and waits until the pod's policy is in force. One that is there is an error, as the
    /// specification wants it; one that is half there, from a call that never ended, is made anew.
    ///
    /// # Errors
    /// [`PodError`]; then nothing is left of it, unless it was there before.
    pub async fn add(&self, mut wanted: Entry, patience: Duration) -> Result<(Entry, Made), PodError> {
        wanted.wishes.ips = wanted.wishes.addresses(self.pod(&wanted).as_deref())?;
        self.may_have_ports(&wanted)?;
        let entry = {
            let _held = self.hold(&wanted.container_id, &wanted.ifname).await;
            let known = self.ledger().get(&wanted.container_id, &wanted.ifname).cloned();
            if let Some(entry) = known {
                if entry.netns == wanted.netns {
                    match self.check_entry(&entry).await {
                        Ok(()) => return Err(PodError::InterfaceExists(wanted.ifname)),
                        Err(PodError::Missing(what)) => {
                            let pod = format!("{}/{}", entry.namespace, entry.name);
                            tracing::warn!(
                                pod,
                                device = entry.device,
                                what,
                                "an interface is not whole: it is made anew"
                            );
                        }
                        // Nothing of a pod's is taken down because it could not be looked at.
                        Err(error) => return Err(error),
                    }
                }
                self.undo(&entry, Use::Maybe).await?;
            }
            self.make(&wanted).await?
        };
        if let Err(error) = self.wait(&entry, patience).await {
            self.release_after(&entry, Use::Hardly).await?;
            return Err(error);
        }
        // What the Pod says of itself may have come only now.
        let pod = self.pod(&entry);
        let asked = entry.wishes.addresses(pod.as_deref());
        if asked.as_ref().is_ok_and(|ips| *ips != entry.wishes.ips) {
            self.release(&entry).await?;
            return Box::pin(self.add(wanted, patience)).await;
        }
        let done = match asked.map_err(PodError::from) {
            Ok(_) => self.limit(&entry, pod.as_deref()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            self.release(&entry).await?;
            return Err(error);
        }
        let made = self.made(&entry);
        Ok((entry, made))
    }

    /// Removes this very interface: not one that another call has made in its place since.
    ///
    /// # Errors
    /// [`PodError`]; then it can be tried again.
    pub async fn release(&self, entry: &Entry) -> Result<(), PodError> {
        self.release_after(entry, Use::Maybe).await
    }

    async fn release_after(&self, entry: &Entry, used: Use) -> Result<(), PodError> {
        let _held = self.hold(&entry.container_id, &entry.ifname).await;
        let same = self.ledger().get(&entry.container_id, &entry.ifname) == Some(entry);
        if same { self.undo(entry, used).await } else { Ok(()) }
    }

    /// Removes the interface; no error if it is not there, or its namespace is gone.
    ///
    /// # Errors
    /// [`PodError`]; then it can be tried again.
    pub async fn remove(&self, container_id: &str, ifname: &str) -> Result<(), PodError> {
        let _held = self.hold(container_id, ifname).await;
        let entry = self.ledger().get(container_id, ifname).cloned();
        match entry {
            Some(entry) => self.undo(&entry, Use::Maybe).await,
            None => Ok(()),
        }
    }

    /// Whether everything that ADD made is still there, and its policy in force.
    ///
    /// # Errors
    /// [`PodError::Unknown`], [`PodError::Missing`] and others.
    pub async fn check(&self, container_id: &str, ifname: &str) -> Result<(Entry, Made), PodError> {
        let known = self.ledger().get(container_id, ifname).cloned();
        let entry = known.ok_or_else(|| PodError::Unknown(container_id.to_owned(), ifname.to_owned()))?;
        self.check_entry(&entry).await?;
        if !self.in_force.borrow().is_ready(container_id, ifname) {
            return Err(PodError::NotInForce(Duration::ZERO, self.why_not(&entry)));
        }
        let made = self.made(&entry);
        Ok((entry, made))
    }

    /// Everyone who has an address.
    pub fn entries(&self) -> Vec<Entry> {
        self.ledger().entries().to_vec()
    }

    /// Leaves a ledger that agents of before can read. Best effort: as it is, it is whole too.
    pub(crate) fn fold(&self) {
        if let Err(error) = self.ledger().fold() {
            tracing::debug!(error = crate::chain(&error), "the ledger stays as long as it is");
        }
    }

    /// As [`Pods::fold`], and no interface comes or goes any more.
    pub(crate) fn close(&self) {
        if let Err(error) = self.ledger().close() {
            tracing::warn!(error = crate::chain(&error), "an older agent will not read the ledger of addresses");
        }
    }

    /// The node's ranges of pod addresses, one per family.
    ///
    /// # Errors
    /// [`PodError::NoRange`].
    pub fn ranges(&self) -> Result<Vec<IpNetwork>, PodError> {
        let state = self.inbox.snapshot();
        let node = state.nodes.get(&objects::Key::cluster(state.node.name.clone()));
        let mut ranges: Vec<IpNetwork> = Vec::new();
        for range in node.into_iter().flat_map(|node| node.pod_cidrs.iter()) {
            if !ranges.iter().any(|known| known.is_ipv4() == range.is_ipv4()) {
                ranges.push(*range);
            }
        }
        if ranges.is_empty() { Err(PodError::NoRange) } else { Ok(ranges) }
    }

    async fn hold(&self, container_id: &str, ifname: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock().expect("no holder panics");
            held.retain(|_, lock| Arc::strong_count(lock) > 1);
            held.entry((container_id.to_owned(), ifname.to_owned())).or_default().clone()
        };
        lock.lock_owned().await
    }

    fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
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
        let (mac, addresses) = (interface::mac_of(entry), entry.addresses.clone());
        Made { device: entry.device.clone(), host_mac: GATEWAY_MAC, mac, mtu: self.mtu(), addresses }
    }

    async fn make(&self, wanted: &Entry) -> Result<Entry, PodError> {
        let netns = netns::open(Path::new(&wanted.netns))?;
        if netns::is_own(&netns) {
            return Err(PodError::OwnNamespace(wanted.netns.clone()));
        }
        let device = interface::device_name(&wanted.container_id, &wanted.ifname);
        let entry = self.ledger().take(&self.ranges()?, Entry { device, ..wanted.clone() })?;
        let (mtu, programs, inbox) = (self.mtu(), self.programs.clone(), self.inbox.clone());
        let job = build::Job { entry: entry.clone(), netns, mtu, programs, inbox };
        let turn = self.turns.acquire().await;
        let mut built = job.run().await;
        drop(turn);
        // It may have changed since the pair was made.
        if let Ok(link) = &built
            && self.mtu() != mtu
            && let Err(error) = self.resize(&entry, &Link { mtu, ..link.clone() }, self.mtu()).await
        {
            built = Err((Use::Hardly, error));
        }
        if let Err((used, error)) = built {
            self.undo(&entry, used).await?;
            return Err(error);
        }
        Ok(entry)
    }

    async fn undo(&self, entry: &Entry, used: Use) -> Result<(), PodError> {
        departure::remove(&entry.device).await?;
        self.programs().forget(&entry.device)?;
        // A pod that nobody knows has no policy in force. Asked after the device is gone: nothing more comes.
        let unknown =
            || self.pod(entry).is_none() && !self.in_force.borrow().is_ready(&entry.container_id, &entry.ifname);
        let never = used == Use::Never || (used == Use::Hardly && unknown());
        self.inbox.detach(&entry.container_id, &entry.ifname);
        let mut ledger = self.ledger();
        if never {
            ledger.forget(&entry.container_id, &entry.ifname)?;
        } else {
            ledger.retain(|other| !other.is(&entry.container_id, &entry.ifname))?;
        }
        Ok(())
    }

    async fn check_entry(&self, entry: &Entry) -> Result<(), PodError> {
        let link = self.netlink.link(&entry.device).await?;
        let link = link.filter(|link| link.up).ok_or(PodError::Missing("the host's end"))?;
        let (tcx, pinned) = {
            let programs = self.programs();
            (
                programs.by_tcx(Hook::FromPod, &link.name),
                [Hook::FromPod, Hook::ToPod].map(|hook| programs.is_attached(hook, &link.name)),
            )
        };
        if pinned.contains(&false) || (!tcx && self.our_filters(&link).await? < 2) {
            return Err(PodError::Missing("a hook"));
        }
        let inside = netns::connect(Path::new(&entry.netns)).await?;
        let missing = interface::missing(&inside, &entry.ifname, &entry.addresses, interface::mac_of(entry)).await?;
        missing.map_or(Ok(()), |what| Err(PodError::Missing(what)))
    }

    async fn wait(&self, entry: &Entry, patience: Duration) -> Result<(), PodError> {
        let mut in_force = self.in_force.clone();
        let is_mine = || self.ledger().get(&entry.container_id, &entry.ifname) == Some(entry);
        let ready = in_force.wait_for(|state| state.is_ready(&entry.container_id, &entry.ifname) || !is_mine());
        match tokio::time::timeout(patience, ready).await {
            Ok(Ok(_)) if !is_mine() => Err(PodError::Removed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(PodError::NotInForce(patience, "the agent is going down")),
            Err(_) => Err(PodError::NotInForce(patience, self.why_not(entry))),
        }
    }

    fn why_not(&self, entry: &Entry) -> &'static str {
        let pods = self.inbox.snapshot().pods;
        match pods.get(&objects::Key::new(entry.namespace.as_str(), entry.name.as_str())) {
            None => "the API server has not told of this pod",
            Some(pod) if !pod.goes_by(&entry.uid) => {
                "the API server tells of another pod of that name (its uid differs)"
            }
            Some(_) => "the tables could not be written in time",
        }
    }
}

fn attachment(entry: &Entry, link: &Link) -> Attachment {
    Attachment {
        container_id: entry.container_id.as_str().into(),
        ifname: entry.ifname.as_str().into(),
        pod: objects::Key::new(entry.namespace.as_str(), entry.name.as_str()),
        uid: entry.uid.as_str().into(),
        addresses: entry.addresses.clone(),
        ifindex: link.index,
        mac: interface::mac_of(entry),
        wishes: entry.wishes.clone(),
    }
}
