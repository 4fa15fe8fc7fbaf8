//! Addresses of this node's pods: the ledger of who has which, on disk.
//!
//! Each change is written down before it is (`journal`), so that a killed agent gives no address twice. A new boot starts
//! empty: whatever had an address then is gone, so the file is named by its boot and need not outlive a power cut. Addresses
//! are given out in a circle, and one that was freed rests for [`REST`]: what was on its way to the old pod has gone by then.
use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize};

use self::journal::Journal;
use crate::cni::wishes::{WishError, Wishes};

mod file;
mod journal;
mod range;

pub use file::write_atomically;
pub use range::{capacity, use_of};

/// The ledger cannot be read or written, or has nothing to give.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The file.
    #[error("cannot {operation} the ledger of addresses {path}")]
    File {
        /// "read", "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was asked cannot be granted.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// The range is used up.
    #[error("no address is left in {range}: all {used} are in use")]
    Exhausted {
        /// The node's range.
        range: IpNetwork,
        /// How many it has.
        used: usize,
    },
    /// What is free was another pod's a moment ago.
    #[error("the free addresses of {range} rest for {REST} s after their last pods: {resting} of them")]
    Resting {
        /// The node's range.
        range: IpNetwork,
        /// How many rest.
        resting: usize,
    },
}

/// Seconds that an address is nobody's after its pod: longer than a packet lives, and than peers' neighbour entries and
/// half-open connections to it. A pod that asks for an address by name has it at once: it is its successor.
pub const REST: u64 = 15;

/// One interface of one sandbox.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name inside the pod.
    pub ifname: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub name: String,
    /// `metadata.uid`; empty if the runtime did not say.
    pub uid: String,
    /// Path of the network namespace.
    pub netns: String,
    /// Its addresses, one per family, in the order of the node's ranges.
    #[serde(alias = "address", deserialize_with = "one_or_more")]
    pub addresses: Vec<IpAddr>,
    /// The host's end.
    pub device: String,
    /// `name` of the network configuration: GC of one network leaves those of others alone.
    #[serde(default)]
    pub network: String,
    /// What was asked for, and granted.
    #[serde(default)]
    pub wishes: Wishes,
}

impl Entry {
    /// True for the interface of that sandbox.
    pub fn is(&self, container_id: &str, ifname: &str) -> bool {
        self.container_id == container_id && self.ifname == ifname
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Pages {
    boot: String,
    /// The last address of each family that was given out.
    #[serde(default, deserialize_with = "one_or_more")]
    last: Vec<IpAddr>,
    entries: Vec<Entry>,
    /// Addresses that rest.
    #[serde(default)]
    freed: Vec<Freed>,
}

/// What one line of the ledger says.
#[derive(Clone, Serialize, Deserialize)]
enum Change {
    /// An interface has addresses, at this second since the boot; another entry of it goes.
    Taken { at: u64, entry: Box<Entry> },
    /// These interfaces, by container id and name, are gone; their addresses rest.
    Freed { at: u64, interfaces: Vec<(String, String)> },
    /// This one is gone, and its addresses are free at once.
    Forgotten { interface: (String, String) },
}

impl Pages {
    /// Makes a change; whatever it says, the same pages come of the same lines.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Taken { at, entry } => {
                self.last.clone_from(&entry.addresses);
                self.freed.retain(|freed| freed.rests(at) && !entry.addresses.contains(&freed.address));
                self.entries.retain(|other| !other.is(&entry.container_id, &entry.ifname));
                self.entries.push(*entry);
            }
            Change::Freed { at, interfaces } => {
                let is = |entry: &mut Entry| interfaces.iter().any(|(id, ifname)| entry.is(id, ifname));
                let gone: Vec<Entry> = self.entries.extract_if(.., is).collect();
                self.freed.retain(|freed| freed.rests(at));
                self.freed.extend(gone.iter().flat_map(|entry| &entry.addresses).map(|ip| Freed { address: *ip, at }));
            }
            Change::Forgotten { interface: (id, ifname) } => self.entries.retain(|entry| !entry.is(&id, &ifname)),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Freed {
    address: IpAddr,
    /// Seconds since the boot.
    at: u64,
}

impl Freed {
    fn rests(&self, now: u64) -> bool {
        now.saturating_sub(self.at) < REST
    }
}

/// Seconds since the boot, sleep included.
fn uptime() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| time.tv_sec().cast_unsigned())
}

/// Ledgers of agents that knew one family have an address, or none, where there is a list now.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Many(Vec<IpAddr>),
        One(IpAddr),
    }
    Ok(match Option::<Either>::deserialize(deserializer)? {
        Some(Either::Many(all)) => all,
        Some(Either::One(one)) => vec![one],
        None => Vec::new(),
    })
}

/// Who has which address.
pub struct Ledger {
    journal: Journal,
    pages: Pages,
    clock: fn() -> u64,
    closed: bool,
}

impl Ledger {
    /// Opens the ledger in `directory`; entries of another boot are dropped.
    ///
    /// # Errors
    /// [`IpamError::File`]. A ledger that makes no sense is an error, not a fresh start: its addresses may be in use.
    pub fn open(directory: &Path, boot: &str) -> Result<Ledger, IpamError> {
        let path = directory.join(format!("addresses-{boot}.json"));
        forget_others(directory, &path);
        let failed = |source| IpamError::File { operation: "read", path: path.clone(), source };
        let (journal, pages) = Journal::open(path.clone()).map_err(failed)?;
        let pages = if pages.boot == boot { pages } else { Pages { boot: boot.to_owned(), ..Pages::default() } };
        Ok(Ledger { journal, pages, clock: uptime, closed: false })
    }

    /// Who has an address by the ledger at `path`, whoever keeps it; none if there is no file.
    ///
    /// # Errors
    /// [`IpamError::File`].
    pub fn look(path: &Path) -> Result<Vec<Entry>, IpamError> {
        let failed = |source| IpamError::File { operation: "read", path: path.to_owned(), source };
        Ok(journal::read(path).map_err(failed)?.unwrap_or_default().entries)
    }

    /// Everyone who has an address.
    pub fn entries(&self) -> &[Entry] {
        &self.pages.entries
    }

    /// The entry of an interface.
    pub fn get(&self, container_id: &str, ifname: &str) -> Option<&Entry> {
        self.pages.entries.iter().find(|entry| entry.is(container_id, ifname))
    }

    /// Writes down `entry` with the next free address of each of `ranges`; the entry's own addresses count for nothing.
    ///
    /// # Errors
    /// [`IpamError`]; then nothing has changed.
    pub fn take(&mut self, ranges: &[IpNetwork], entry: Entry) -> Result<Entry, IpamError> {
        let used: BTreeSet<IpAddr> = self.pages.entries.iter().flat_map(|entry| &entry.addresses).copied().collect();
        let now = (self.clock)();
        let resting: Vec<IpAddr> =
            self.pages.freed.iter().filter(|freed| freed.rests(now)).map(|freed| freed.address).collect();
        let taken: BTreeSet<IpAddr> = used.iter().chain(&resting).copied().collect();
        self.ports_are_free(&entry)?;
        self.asked(ranges, &entry)?;
        let free = |range: &IpNetwork| {
            let v4 = range.is_ipv4();
            if let Some(asked) = entry.wishes.ips.iter().find(|asked| asked.is_ipv4() == v4) {
                return Ok(*asked);
            }
            let last = self.pages.last.iter().find(|last| last.is_ipv4() == v4).copied();
            range::next(*range, last, &taken).ok_or_else(|| match range::next(*range, last, &used) {
                Some(_) => IpamError::Resting { range: *range, resting: resting.len() },
                None => exhausted(*range),
            })
        };
        let addresses = ranges.iter().map(free).collect::<Result<Vec<_>, _>>()?;
        let entry = Entry { addresses, ..entry };
        self.write(Change::Taken { at: now, entry: Box::new(entry.clone()) })?;
        Ok(entry)
    }

    /// Whether the addresses that the pod asks for are this node's and free.
    fn asked(&self, ranges: &[IpNetwork], entry: &Entry) -> Result<(), WishError> {
        for address in &entry.wishes.ips {
            if let Some(owner) = self.pages.entries.iter().find(|other| other.addresses.contains(address)) {
                let owner = format!("{}/{}", owner.namespace, owner.name);
                return Err(WishError::Taken { what: format!("the address {address}"), owner });
            }
            if !ranges.iter().any(|range| range::is_pods(*range, *address)) {
                let why = "is no pod address of this node: take one of the Node's spec.podCIDRs, or bind the Pod to another node";
                let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                let value = format!("{address} ({})", list.join(", "));
                return Err(WishError::Invalid { field: "static address".into(), value, why });
            }
        }
        Ok(())
    }

    fn ports_are_free(&self, entry: &Entry) -> Result<(), WishError> {
        let others = self.pages.entries.iter().filter(|other| !other.is(&entry.container_id, &entry.ifname));
        for (other, theirs) in others.flat_map(|other| other.wishes.host_ports.iter().map(move |port| (other, port))) {
            if let Some(port) = entry.wishes.host_ports.iter().find(|port| port.collides(theirs)) {
                let owner = format!("{}/{}", other.namespace, other.name);
                return Err(WishError::Taken { what: port.to_string(), owner });
            }
        }
        Ok(())
    }

    /// Gives the addresses back of all entries but those that `keep` wants; who they were.
    ///
    /// # Errors
    /// [`IpamError::File`]; then nothing has changed.
    pub fn retain(&mut self, keep: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>, IpamError> {
        let gone: Vec<Entry> = self.pages.entries.iter().filter(|entry| !keep(entry)).cloned().collect();
        if !gone.is_empty() {
            let interfaces = gone.iter().map(|entry| (entry.container_id.clone(), entry.ifname.clone())).collect();
            self.write(Change::Freed { at: (self.clock)(), interfaces })?;
        }
        Ok(gone)
    }

    /// Gives the addresses back of an interface that no packet could have used: they rest for nobody.
    ///
    /// # Errors
    /// [`IpamError::File`]; then nothing has changed.
    pub fn forget(&mut self, container_id: &str, ifname: &str) -> Result<(), IpamError> {
        match self.get(container_id, ifname) {
            Some(_) => self.write(Change::Forgotten { interface: (container_id.to_owned(), ifname.to_owned()) }),
            None => Ok(()),
        }
    }

    /// Leaves a file of pages alone, as agents that knew no lines read it.
    ///
    /// # Errors
    /// [`IpamError::File`]; then the file says the same, at more length.
    pub fn fold(&mut self) -> Result<(), IpamError> {
        let done = self.journal.fold(&self.pages);
        done.map_err(|source| self.unwritten(source))
    }

    /// As [`Ledger::fold`], at the agent's end: no change comes after it.
    ///
    /// # Errors
    /// [`IpamError::File`].
    pub fn close(&mut self) -> Result<(), IpamError> {
        self.closed = true;
        self.fold()
    }

    fn write(&mut self, change: Change) -> Result<(), IpamError> {
        if self.closed {
            return Err(self.unwritten(io::Error::other("the agent ends")));
        }
        let pages = &self.pages;
        let after = || {
            let mut pages = pages.clone();
            pages.apply(change.clone());
            pages
        };
        if let Err(source) = self.journal.append(&change, after) {
            return Err(self.unwritten(source));
        }
        self.pages.apply(change);
        Ok(())
    }

    fn unwritten(&self, source: io::Error) -> IpamError {
        IpamError::File { operation: "write", path: self.journal.path().to_owned(), source }
    }
}

/// The first range of which every address is in use: no pod more fits on the node. One that rests is free soon.
pub fn full(ranges: &[IpNetwork], entries: &[Entry]) -> Option<IpamError> {
    let full = use_of(ranges, entries).into_iter().find(|(_, used, size)| used >= size);
    full.map(|(range, ..)| exhausted(range))
}

fn exhausted(range: IpNetwork) -> IpamError {
    IpamError::Exhausted { range, used: usize::try_from(range::size(range)).unwrap_or(usize::MAX) }
}

/// Ledgers of other boots, and of versions that named it otherwise. Best effort: nobody reads them again.
fn forget_others(directory: &Path, own: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let others = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("addresses") && name.ends_with(".json") && path != own
    });
    others.for_each(|path| drop(fs::remove_file(path)));
}

#[cfg(test)]
mod tests;
