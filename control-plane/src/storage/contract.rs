//! The one suite of tests that every backend passes; a backend's own test calls `run` with a way to make an empty one.
//!
//! What it does not hold: durability, which a process cannot see of itself; `tests/durability.rs` kills one.
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{Change, Changes, Error, Expect, Key, Storage};

/// Runs every case, each on a store of its own.
///
/// # Panics
/// When the backend breaks the contract.
pub(super) async fn run<S: Storage, F: Future<Output = S>>(mut empty: impl FnMut() -> F) {
    expectations(&empty().await).await;
    revisions(&empty().await).await;
    reads(&empty().await).await;
    watches(&empty().await).await;
    compaction(&empty().await).await;
    expiry(&empty().await).await;
    concurrency(&empty().await).await;
    closing(&empty().await).await;
}

fn key(path: &str) -> Key {
    Key::new("pods", path)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn put(store: &impl Storage, path: &str, text: &'static str, expect: Expect) -> super::Result<u64> {
    store.put(key(path), bytes(text), expect, None).await
}

fn found(result: super::Result<u64>) -> Option<u64> {
    match result {
        Err(Error::Mismatch { found }) => found,
        other => panic!("a mismatch was due, not {other:?}"),
    }
}

async fn expectations(store: &impl Storage) {
    let first = put(store, "a", "1", Expect::Absent).await.expect("nothing is there");
    assert_eq!(found(put(store, "a", "2", Expect::Absent).await), Some(first));
    let second = put(store, "a", "2", Expect::Revision(first)).await.expect("the revision is right");
    assert_eq!(found(put(store, "a", "3", Expect::Revision(first)).await), Some(second));
    assert_eq!(found(put(store, "b", "1", Expect::Revision(first)).await), None);
    assert_eq!(found(store.delete(key("a"), Expect::Revision(first)).await), Some(second));
    assert_eq!(found(store.delete(key("b"), Expect::Any).await), None);
    let gone = store.delete(key("a"), Expect::Revision(second)).await.expect("the revision is right");
    assert!(gone > second);
    put(store, "a", "4", Expect::Absent).await.expect("it was deleted");
    put(store, "a", "5", Expect::Any).await.expect("anything goes");
}

async fn revisions(store: &impl Storage) {
    let (mut last, _) = store.revision().await.expect("a revision");
    for (table, path) in [("pods", "a"), ("minions", "a"), ("pods", "b")] {
        let revision = store.put(Key::new(table, path), bytes("x"), Expect::Absent, None).await.expect("a write");
        assert!(revision > last, "one counter for all tables");
        assert!(store.revision().await.expect("a revision").0 >= revision);
        last = revision;
    }
}

async fn reads(store: &impl Storage) {
    assert_eq!(store.get(&key("a")).await.expect("a read"), None);
    let b = put(store, "b", "two", Expect::Absent).await.expect("a write");
    let a = put(store, "a", "one", Expect::Absent).await.expect("a write");
    let stored = store.get(&key("a")).await.expect("a read").expect("it is there");
    assert_eq!((stored.revision, &stored.value[..]), (a, &b"one"[..]));
    let (revision, all) = store.list().await.expect("a list");
    assert!(revision >= a);
    let seen: Vec<_> = all.iter().map(|stored| (&*stored.key.path, stored.revision)).collect();
    assert_eq!(seen, [("a", a), ("b", b)]);
}

async fn next(changes: &mut Changes, seen: &mut Vec<Change>) {
    let batch = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
    seen.extend(batch.expect("a change in time").expect("the store is open").iter().cloned());
}

async fn watches(store: &impl Storage) {
    let (start, _) = store.revision().await.expect("a revision");
    let mut live = store.watch(start).await.expect("a watch");
    let created = put(store, "a", "1", Expect::Absent).await.expect("a write");
    let updated = put(store, "a", "2", Expect::Any).await.expect("a write");
    let deleted = store.delete(key("a"), Expect::Any).await.expect("a deletion");
    let change = |revision, value: Option<&'static str>, previous: Option<(u64, &'static str)>| Change {
        revision,
        key: key("a"),
        value: value.map(bytes),
        previous: previous.map(|(revision, text)| (revision, bytes(text))),
    };
    let wanted = [
        change(created, Some("1"), None),
        change(updated, Some("2"), Some((created, "1"))),
        change(deleted, None, Some((updated, "2"))),
    ];
    for (from, wanted) in [(start, &wanted[..]), (created, &wanted[1..]), (updated, &wanted[2..])] {
        let mut replayed = store.watch(from).await.expect("the log is there");
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            next(&mut replayed, &mut seen).await;
        }
        assert_eq!(seen, wanted, "replayed from {from}");
    }
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        next(&mut live, &mut seen).await;
    }
    assert_eq!(seen, wanted, "live");
}

async fn compaction(store: &impl Storage) {
    let first = put(store, "a", "1", Expect::Absent).await.expect("a write");
    let second = put(store, "a", "2", Expect::Any).await.expect("a write");
    let third = put(store, "a", "3", Expect::Any).await.expect("a write");
    store.compact(second).await.expect("compaction");
    match store.watch(first).await {
        Err(Error::Compacted { asked, oldest }) => assert_eq!((asked, oldest), (first, second)),
        other => panic!("{:?} from a compacted revision", other.map(|_| ())),
    }
    let mut seen = Vec::new();
    next(&mut store.watch(second).await.expect("not compacted"), &mut seen).await;
    assert_eq!(seen[0].revision, third);
    assert_eq!(store.get(&key("a")).await.expect("a read").map(|stored| stored.value), Some(bytes("3")));
}

async fn expiry(store: &impl Storage) {
    let (start, _) = store.revision().await.expect("a revision");
    let ttl = Some(Duration::from_secs(1));
    store.put(key("short"), bytes("x"), Expect::Absent, ttl).await.expect("a write");
    store.put(key("kept"), bytes("x"), Expect::Absent, ttl).await.expect("a write");
    store.put(key("kept"), bytes("y"), Expect::Any, None).await.expect("a write");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
    while store.get(&key("short")).await.expect("a read").is_some() {
        assert!(tokio::time::Instant::now() < deadline, "it did not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(store.get(&key("kept")).await.expect("a read").is_some(), "a later write without ttl keeps it");
    let mut changes = store.watch(start).await.expect("a watch");
    let mut seen = Vec::new();
    while seen.len() < 4 {
        next(&mut changes, &mut seen).await;
    }
    assert_eq!((&*seen[3].key.path, &seen[3].value), ("short", &None), "expiry is a deletion like any other");
}

async fn concurrency(store: &impl Storage) {
    let base = put(store, "n", "0", Expect::Absent).await.expect("a write");
    let rivals = (0..16).map(|_| put(store, "n", "1", Expect::Revision(base)));
    let won = futures::future::join_all(rivals).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1, "one of sixteen rivals wins");
    let paths: Vec<String> = (0..100).map(|n| format!("many/{n}")).collect();
    let writes = paths.iter().map(|path| put(store, path, "x", Expect::Absent));
    let mut revisions: Vec<u64> =
        futures::future::join_all(writes).await.into_iter().map(|r| r.expect("keys of their own")).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 100, "a revision belongs to one write");
}

async fn closing(store: &impl Storage) {
    let mut changes = store.watch(store.revision().await.expect("a revision").0).await.expect("a watch");
    put(store, "a", "1", Expect::Absent).await.expect("a write");
    store.close().await;
    let mut seen = Vec::new();
    next(&mut changes, &mut seen).await;
    assert!(changes.recv().await.is_none(), "a watch ends");
    assert!(matches!(put(store, "b", "1", Expect::Absent).await, Err(Error::Closed)), "no write is taken");
}
