//! Addresses of this node's pods: the ledger of who has which, on disk.
//!
//! Written whole and renamed on each change, so that a killed agent gives no address twice. A new boot starts empty:
//! whatever had an address then is gone, so the file is named by its boot and need not outlive a power cut. Addresses are
//! given out in a circle, so that one that was just freed rests as long as possible.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::cni::wishes::{WishError, Wishes};

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
        range: Ipv4Network,
        /// How many it has.
        used: usize,
    },
}

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
    /// Its address.
    pub address: Ipv4Addr,
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
    last: Option<Ipv4Addr>,
    entries: Vec<Entry>,
}

/// Who has which address.
pub struct Ledger {
    path: PathBuf,
    pages: Pages,
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
        Ok(Ledger { path, pages })
    }

    /// Everyone who has an address.
    pub fn entries(&self) -> &[Entry] {
        &self.pages.entries
    }

    /// The entry of an interface.
    pub fn get(&self, container_id: &str, ifname: &str) -> Option<&Entry> {
        self.pages.entries.iter().find(|entry| entry.is(container_id, ifname))
    }

    /// Writes down `entry` with the next free address of `range`; the entry's own address counts for nothing.
    ///
    /// # Errors
    /// [`IpamError`]; then nothing has changed.
    pub fn take(&mut self, range: Ipv4Network, entry: Entry) -> Result<Entry, IpamError> {
        let used: BTreeSet<Ipv4Addr> = self.pages.entries.iter().map(|entry| entry.address).collect();
        self.ports_are_free(&entry)?;
        let exhausted = || IpamError::Exhausted { range, used: usize::try_from(size(range)).unwrap_or(usize::MAX) };
        let wanted = entry.wishes.ips.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let address = match wanted {
            Some(wanted) => self.asked(range, wanted)?,
            None => next(range, self.pages.last, &used).ok_or_else(exhausted)?,
        };
        let entry = Entry { address, ..entry };
        let mut pages = self.pages.clone();
        pages.entries.retain(|other| !other.is(&entry.container_id, &entry.ifname));
        pages.entries.push(entry.clone());
        pages.last = Some(address);
        self.write(pages)?;
        Ok(entry)
    }

    fn asked(&self, range: Ipv4Network, address: Ipv4Addr) -> Result<Ipv4Addr, WishError> {
        if let Some(owner) = self.pages.entries.iter().find(|entry| entry.address == address) {
            let owner = format!("{}/{}", owner.namespace, owner.name);
            return Err(WishError::Taken { what: format!("the address {address}"), owner });
        }
        let last = range.network().to_bits() + 1 + size(range);
        if range.network().to_bits() + 1 < address.to_bits() && address.to_bits() <= last {
            return Ok(address);
        }
        let why =
            "is no pod address of this node: take one of the Node's spec.podCIDR, or bind the Pod to another node";
        Err(WishError::Invalid { field: "static address".into(), value: format!("{address} ({range})"), why })
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
            self.write(pages)?;
        }
        Ok(gone)
    }

    fn write(&mut self, pages: Pages) -> Result<(), IpamError> {
        let text = serde_json::to_vec_pretty(&pages).expect("strings and addresses are JSON");
        replace(&self.path, &text, 0o600, false).map_err(|source| IpamError::File {
            operation: "write",
            path: self.path.clone(),
            source,
        })?;
        self.pages = pages;
        Ok(())
    }
}

/// Addresses that pods may have: not the network's own, not its gateway (the first), not the broadcast.
fn size(range: Ipv4Network) -> u32 {
    range.size().saturating_sub(3)
}

/// How many pods a range has addresses for.
pub fn capacity(range: Ipv4Network) -> u32 {
    size(range)
}

/// The first free address behind `last`, in a circle.
fn next(range: Ipv4Network, last: Option<Ipv4Addr>, used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let first = u32::from(range.network()) + 2;
    let count = size(range);
    let start = last.map_or(0, |last| u32::from(last).wrapping_sub(first).wrapping_add(1));
    let start = if start < count { start } else { 0 };
    (0..count).map(|step| Ipv4Addr::from(first + (start + step) % count)).find(|address| !used.contains(address))
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

/// Writes a file so that after a power cut it is the old one or the new one, whole.
///
/// # Errors
/// What the file system said.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode, true)
}

/// Without `synced` it is whole for every process, but not after a power cut.
fn replace(path: &Path, bytes: &[u8], mode: u32, synced: bool) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // A dot first: container runtimes read every file of a directory whose name ends right.
    let temporary = directory.join(format!(".{name}.new"));
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    if !synced {
        return fs::rename(&temporary, path);
    }
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            container_id: id.into(),
            ifname: "eth0".into(),
            namespace: "default".into(),
            name: id.into(),
            uid: String::new(),
            netns: String::new(),
            address: Ipv4Addr::UNSPECIFIED,
            device: String::new(),
            network: String::new(),
            wishes: Wishes::default(),
        }
    }

    fn range(text: &str) -> Ipv4Network {
        text.parse().expect("a range")
    }

    #[test]
    fn addresses_go_round_and_leave_out_what_is_nobodys() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
        let small = range("10.0.0.0/29");
        let mut take = |id: &str| ledger.take(small, entry(id)).map(|entry| entry.address.octets()[3]).ok();
        let given: Vec<_> = ["a", "b", "c", "d", "e"].map(&mut take).into_iter().collect();
        assert_eq!(given, [Some(2), Some(3), Some(4), Some(5), Some(6)]);
        assert_eq!(take("f"), None);
        let gone = ledger.retain(|entry| entry.container_id != "b").expect("written");
        assert_eq!(gone.len(), 1);
        assert_eq!(ledger.take(small, entry("f")).expect("b's").address.octets()[3], 3);
    }

    #[test]
    fn a_freed_address_rests() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
        let wide = range("10.0.0.0/24");
        let first = ledger.take(wide, entry("a")).expect("room").address;
        ledger.retain(|_| false).expect("written");
        assert_ne!(ledger.take(wide, entry("b")).expect("room").address, first);
    }

    #[test]
    fn it_survives_a_restart_but_not_a_reboot() {
        let directory = tempfile::tempdir().expect("a directory");
        let taken = Ledger::open(directory.path(), "boot").expect("new").take(range("10.0.0.0/24"), entry("a"));
        let taken = taken.expect("room");
        let again = Ledger::open(directory.path(), "boot").expect("there");
        assert_eq!(again.get("a", "eth0"), Some(&taken));
        fs::write(directory.path().join("addresses-boot.json"), "{").expect("written");
        assert!(Ledger::open(directory.path(), "boot").is_err(), "a broken ledger is no fresh start");
        assert_eq!(Ledger::open(directory.path(), "other").expect("new").entries(), []);
        assert!(!directory.path().join("addresses-boot.json").exists(), "nobody reads it again");
    }
}
