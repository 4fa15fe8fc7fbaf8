//! Addresses of this node's pods: the ledger of who has which, on disk.
//!
//! Written whole and renamed on each change, so that a killed agent gives no address twice. A new boot starts empty:
//! whatever had an address then is gone, so the file is named by its boot and need not outlive a power cut. Addresses are
//! given out in a circle, and one that was freed rests for [`REST`]: what was on its way to the old pod has gone by then.
use std::{
    collections::BTreeSet,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cni::wishes::{WishError, Wishes};

mod file;
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
    path: PathBuf,
    pages: Pages,
    clock: fn() -> u64,
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
        let pages = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Pages>(&bytes).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Pages::default(),
            Err(error) => return Err(failed(error)),
        };
        let pages = if pages.boot == boot { pages } else { Pages { boot: boot.to_owned(), ..Pages::default() } };
        Ok(Ledger { path, pages, clock: uptime })
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
        let mut pages = self.pages.clone();
        pages.last.clone_from(&addresses);
        pages.freed.retain(|freed| freed.rests(now) && !addresses.contains(&freed.address));
        let entry = Entry { addresses, ..entry };
        pages.entries.retain(|other| !other.is(&entry.container_id, &entry.ifname));
        pages.entries.push(entry.clone());
        self.write(pages)?;
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
        let mut pages = self.pages.clone();
        let gone: Vec<Entry> = pages.entries.extract_if(.., |entry| !keep(entry)).collect();
        if !gone.is_empty() {
            let at = (self.clock)();
            pages.freed.retain(|freed| freed.rests(at));
            pages.freed.extend(gone.iter().flat_map(|entry| &entry.addresses).map(|ip| Freed { address: *ip, at }));
            self.write(pages)?;
        }
        Ok(gone)
    }

    /// Gives the addresses back of an interface that no packet could have used: they rest for nobody.
    ///
    /// # Errors
    /// [`IpamError::File`]; then nothing has changed.
    pub fn forget(&mut self, container_id: &str, ifname: &str) -> Result<(), IpamError> {
        let mut pages = self.pages.clone();
        pages.entries.retain(|entry| !entry.is(container_id, ifname));
        if pages.entries.len() == self.pages.entries.len() { Ok(()) } else { self.write(pages) }
    }

    fn write(&mut self, pages: Pages) -> Result<(), IpamError> {
        let text = serde_json::to_vec(&pages).expect("strings and addresses are JSON");
        file::replace(&self.path, &text, 0o600, false).map_err(|source| IpamError::File {
            operation: "write",
            path: self.path.clone(),
            source,
        })?;
        self.pages = pages;
        Ok(())
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
