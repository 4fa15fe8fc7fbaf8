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
