//! The ledger of addresses, on real files.
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
fn an_address_that_nobody_used_is_free_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
    let small = range("10.0.0.0/30");
    assert_eq!(octet(&ledger.take(&small, entry("a")).expect("room")), 2);
    assert!(full(&small, ledger.entries()).is_some());
    ledger.forget("a", "eth0").expect("written");
    assert!(full(&small, ledger.entries()).is_none());
    assert_eq!(octet(&ledger.take(&small, entry("b")).expect("a's")), 2);
    let again = Ledger::open(directory.path(), "boot").expect("there");
    assert_eq!(again.entries().len(), 1);
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

/// A ledger with three pods of which one has gone, and its file.
fn kept(directory: &Path) -> (Ledger, Vec<u8>) {
    let mut ledger = Ledger::open(directory, "boot").expect("new");
    for id in ["a", "b", "c"] {
        ledger.take(&range("10.0.0.0/24"), entry(id)).expect("room");
    }
    ledger.retain(|entry| entry.container_id != "b").expect("written");
    (ledger, fs::read(directory.join("addresses-boot.json")).expect("there"))
}

fn ids(ledger: &Ledger) -> Vec<&str> {
    ledger.entries().iter().map(|entry| entry.container_id.as_str()).collect()
}

#[test]
fn a_change_is_a_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ledger, bytes) = kept(directory.path());
    assert_eq!(bytes.split_inclusive(|byte| *byte == b'\n').count(), 4, "the pages with a, and b, c, and b's end");
    let again = Ledger::open(directory.path(), "boot").expect("read");
    assert_eq!(again.entries(), ledger.entries());
    assert_eq!(Ledger::look(&directory.path().join("addresses-boot.json")).expect("read"), ledger.entries());
    let pages = |ledger: &Ledger| serde_json::to_string(&ledger.pages).expect("JSON");
    assert_eq!(pages(&again), pages(&ledger), "what rests and what was given last too");
}

/// Whoever is killed within a write leaves the start of a line: it never happened, and what comes next is whole.
#[test]
fn a_line_without_its_end_never_happened() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, bytes) = kept(directory.path());
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').map(|at| at + 1).collect();
    let states = [vec!["a"], vec!["a", "b"], vec!["a", "b", "c"], vec!["a", "c"]];
    for length in ends[0]..=bytes.len() {
        fs::write(directory.path().join("addresses-boot.json"), &bytes[..length]).expect("written");
        let mut ledger = Ledger::open(directory.path(), "boot").expect("read");
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(ids(&ledger), states[whole - 1], "{length} bytes");
        let next = ledger.take(&range("10.0.0.0/24"), entry("d")).expect("room");
        assert!(ledger.entries().iter().filter(|other| other.addresses == next.addresses).count() == 1);
        let again = Ledger::open(directory.path(), "boot").expect("read");
        assert_eq!(again.entries(), ledger.entries(), "{length} bytes");
    }
}

#[test]
fn lines_that_make_no_sense_are_no_fresh_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, mut bytes) = kept(directory.path());
    bytes.extend(b"{\"Taken\":1}\n");
    fs::write(directory.path().join("addresses-boot.json"), &bytes).expect("written");
    assert!(Ledger::open(directory.path(), "boot").is_err());
}

/// An agent that is killed between the new file and its name leaves the old one, and a file that nobody reads.
#[test]
fn a_replacement_that_never_ended_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ledger, bytes) = kept(directory.path());
    fs::write(directory.path().join(".addresses-boot.json.new"), &bytes[..10]).expect("written");
    let mut again = Ledger::open(directory.path(), "boot").expect("read");
    assert_eq!(again.entries(), ledger.entries());
    again.fold().expect("written");
    assert_eq!(Ledger::open(directory.path(), "boot").expect("read").entries(), ledger.entries());
}

#[test]
fn agents_that_knew_no_lines_read_what_one_leaves_at_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut ledger, bytes) = kept(directory.path());
    let path = directory.path().join("addresses-boot.json");
    assert!(serde_json::from_slice::<Pages>(&bytes).is_err(), "they refuse it, and give no address twice");
    ledger.close().expect("written");
    let pages: Pages = serde_json::from_slice(&fs::read(&path).expect("there")).expect("one document");
    assert_eq!(pages.entries, ledger.entries());
    assert!(ledger.take(&range("10.0.0.0/24"), entry("d")).is_err(), "nothing comes behind it");
    assert_eq!(Ledger::look(&path).expect("read").len(), 2);
}

#[test]
fn the_file_stays_short_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut ledger = Ledger::open(directory.path(), "boot").expect("new");
    let path = directory.path().join("addresses-boot.json");
    for _ in 0..2_000 {
        ledger.take(&range("10.0.0.0/24"), entry("a")).expect("room");
        ledger.forget("a", "eth0").expect("written");
    }
    assert!(fs::metadata(&path).expect("there").len() < 600 << 10);
    ledger.take(&range("10.0.0.0/24"), entry("b")).expect("room");
    fs::remove_file(&path).expect("there");
    ledger.take(&range("10.0.0.0/24"), entry("c")).expect("room");
    assert_eq!(ids(&Ledger::open(directory.path(), "boot").expect("read")), ["b", "c"]);
}

/// Where the file cannot be written the change did not happen, here or on disk; later ones do.
#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut ledger, _) = kept(directory.path());
    let path = directory.path().join("addresses-boot.json");
    fs::remove_file(&path).expect("there");
    fs::create_dir(&path).expect("in its place");
    assert!(matches!(ledger.take(&range("10.0.0.0/24"), entry("d")), Err(IpamError::File { operation: "write", .. })));
    assert_eq!(ids(&ledger), ["a", "c"]);
    fs::remove_dir(&path).expect("empty");
    ledger.take(&range("10.0.0.0/24"), entry("d")).expect("room");
    assert_eq!(ids(&Ledger::open(directory.path(), "boot").expect("read")), ["a", "c", "d"]);
}
