//! Addresses of this node's pods: the ledger of who has which, on disk.
//!
//! Written whole and renamed on each change, so that a killed agent gives no address twice. A new boot starts empty:
//! whatever had an address then is gone, so the file is named by its boot and need not outlive a power cut. Addresses are
//! given out in a circle, and one that was freed rests for [`REST`]: what was on its way to the old pod has gone by then.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize};

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
            next(*range, last, &taken).ok_or_else(|| match next(*range, last, &used) {
                Some(_) => IpamError::Resting { range: *range, resting: resting.len() },
                None => {
                    IpamError::Exhausted { range: *range, used: usize::try_from(size(*range)).unwrap_or(usize::MAX) }
                }
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
            let first = |range: &IpNetwork| number(range.network()) + 2;
            let is_pods = |range: &IpNetwork| {
                let offset = number(*address).checked_sub(first(range));
                range.is_ipv4() == address.is_ipv4() && offset.is_some_and(|offset| offset < all(*range))
            };
            if !ranges.iter().any(is_pods) {
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

/// The most pods that are counted of one range: no node has more, and a /64 has more than any number here.
const MOST: u128 = 1 << 24;

/// Addresses that pods may have: not the network's own, not its gateway (the first), not the broadcast.
fn size(range: IpNetwork) -> u128 {
    all(range).min(MOST)
}

/// The same, uncounted.
fn all(range: IpNetwork) -> u128 {
    let (bits, reserved) = if range.is_ipv4() { (32, 3) } else { (128, 2) };
    let all = 1_u128.checked_shl(bits - u32::from(range.prefix())).unwrap_or(u128::MAX);
    all.saturating_sub(reserved)
}

/// Of each range, how many of its addresses are in use, and how many pods may have.
pub fn use_of(ranges: &[IpNetwork], entries: &[Entry]) -> Vec<(IpNetwork, u64, u64)> {
    let of = |range: &IpNetwork| {
        let addresses = entries.iter().flat_map(|entry| &entry.addresses);
        let used = addresses.filter(|address| range.contains(**address)).count();
        (*range, used as u64, u64::try_from(size(*range)).unwrap_or(u64::MAX))
    };
    ranges.iter().map(of).collect()
}

/// How many pods these ranges have addresses for: each needs one of each.
pub fn capacity(ranges: &[IpNetwork]) -> u32 {
    let least = ranges.iter().map(|range| size(*range)).min().unwrap_or(0);
    u32::try_from(least).unwrap_or(u32::MAX)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// The first free address behind `last`, in a circle.
fn next(range: IpNetwork, last: Option<IpAddr>, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let first = number(range.network()) + 2;
    let count = size(range);
    let start = last.map_or(0, |last| number(last).wrapping_sub(first).wrapping_add(1));
    let start = if start < count { start } else { 0 };
    let all = (0..count).map(|step| address(first + (start + step) % count, range.is_ipv4()));
    all.into_iter().find(|address| !used.contains(address))
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
            addresses: Vec::new(),
            device: String::new(),
            network: String::new(),
            wishes: Wishes::default(),
        }
    }

    fn range(text: &str) -> Vec<IpNetwork> {
        text.split(',').map(|range| range.parse().expect("a range")).collect()
    }

    fn octet(entry: &Entry) -> u8 {
        let IpAddr::V4(v4) = entry.addresses[0] else { panic!("{entry:?}") };
        v4.octets()[3]
    }

    #[test]
    fn addresses_go_round_and_leave_out_what_is_nobodys() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
        let small = range("10.0.0.0/29");
        let mut take = |id: &str| ledger.take(&small, entry(id)).map(|entry| octet(&entry)).ok();
        let given: Vec<_> = ["a", "b", "c", "d", "e"].map(&mut take).into_iter().collect();
        assert_eq!(given, [Some(2), Some(3), Some(4), Some(5), Some(6)]);
        assert_eq!(take("f"), None);
        let gone = ledger.retain(|entry| entry.container_id != "b").expect("written");
        assert_eq!(gone.len(), 1);
        assert!(matches!(ledger.take(&small, entry("f")), Err(IpamError::Resting { resting: 1, .. })));
        ledger.clock = || uptime() + REST;
        assert_eq!(octet(&ledger.take(&small, entry("f")).expect("b's")), 3);
    }

    #[test]
    fn a_freed_address_rests() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
        let wide = range("10.0.0.0/24");
        let first = ledger.take(&wide, entry("a")).expect("room").addresses;
        ledger.retain(|_| false).expect("written");
        assert_ne!(ledger.take(&wide, entry("b")).expect("room").addresses, first);
    }

    #[test]
    fn it_survives_a_restart_but_not_a_reboot() {
        let directory = tempfile::tempdir().expect("a directory");
        let taken = Ledger::open(directory.path(), "boot").expect("new").take(&range("10.0.0.0/24"), entry("a"));
        let taken = taken.expect("room");
        let again = Ledger::open(directory.path(), "boot").expect("there");
        assert_eq!(again.get("a", "eth0"), Some(&taken));
        fs::write(directory.path().join("addresses-boot.json"), "{").expect("written");
        assert!(Ledger::open(directory.path(), "boot").is_err(), "a broken ledger is no fresh start");
        assert_eq!(Ledger::open(directory.path(), "other").expect("new").entries(), []);
        assert!(!directory.path().join("addresses-boot.json").exists(), "nobody reads it again");
    }

    #[test]
    fn an_address_of_each_family() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
        let both = range("10.0.0.0/24,fd00:1::/64");
        let mut take = |id: &str| {
            let addresses = ledger.take(&both, entry(id)).expect("room").addresses;
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(take("a"), ["10.0.0.2", "fd00:1::2"]);
        assert_eq!(take("b"), ["10.0.0.3", "fd00:1::3"]);
        let small = range("10.0.0.0/24,fd00:2::/127");
        assert!(ledger.take(&small, entry("c")).is_err(), "one family is exhausted");
        assert_eq!((capacity(&both), capacity(&small), capacity(&range("::/0"))), (253, 0, 1 << 24));
    }

    #[test]
    fn ledgers_of_one_family_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let old = r#"{"boot":"boot","last":"10.0.0.7","entries":[{"container_id":"a","ifname":"eth0","namespace":"n",
            "name":"a","uid":"","netns":"","address":"10.0.0.7","device":"weft1"}]}"#;
        fs::write(directory.path().join("addresses-boot.json"), old).expect("written");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("read");
        assert_eq!(octet(&ledger.entries()[0]), 7);
        assert_eq!(octet(&ledger.take(&range("10.0.0.0/24"), entry("b")).expect("room")), 8);
    }
}
