//! The copy in memory that serves every read, and the rings that serve every watch.
//!
//! Per resource a copy-on-write ordered map: a consistent snapshot is one pointer. Per resource a ring of its own, so
//! that Leases and Events expire nobody else's watch. Watchers keep a cursor and read the ring themselves: a slow one
//! costs nothing and meets 410 when its place is gone. Above every backend alike: it follows `Storage::watch`.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::{Change, Changes, Error, Expect, Key, Result, Storage};

/// An event stays in its ring at least this long, whatever it costs.
const RING_LEAST: Duration = Duration::from_secs(80);
/// And at most this long, which is also how long a continue token lives.
const RING_MOST: Duration = Duration::from_secs(300);
/// Past `RING_LEAST`, a ring holds no more bytes than this.
const RING_BYTES: usize = 32 << 20;

/// An object's bytes and the revision that wrote them.
#[derive(Debug)]
pub struct Entry {
    /// The revision of the last write.
    pub revision: u64,
    /// The stored bytes: no resourceVersion in them.
    pub value: Bytes,
}

/// `namespace/name` or `name` → object; cloning is one pointer.
pub type Objects = imbl::OrdMap<Arc<str>, Arc<Entry>>;

/// One change of one resource, as watchers see it.
#[derive(Debug)]
pub struct Event {
    /// The change's revision.
    pub revision: u64,
    /// The object's place in its table.
    pub path: Arc<str>,
    /// The object after; `None` when it is deleted.
    pub object: Option<Arc<Entry>>,
    /// The object before; `None` when it is created.
    pub previous: Option<Arc<Entry>>,
    /// What readers of the storage version get, made by the first of them.
    pub served: OnceLock<Bytes>,
    /// The part of (object, previous) that selectors look at, made by the first selector.
    pub selectable: OnceLock<(Option<Value>, Option<Value>)>,
    at: Instant,
}

/// A resource's objects at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// No write of this resource up to here is missing, none after is in it.
    pub revision: u64,
    /// The objects.
    pub objects: Objects,
}

/// A resource: its objects and its ring.
pub struct Table {
    state: RwLock<TableState>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct TableState {
    objects: Objects,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Events up to here have left the ring.
    trimmed: u64,
    newest: u64,
}

/// The copy.
pub struct Cache {
    storage: Arc<dyn Storage>,
    tables: RwLock<HashMap<Arc<str>, Arc<Table>>>,
    applied: watch::Sender<u64>,
    oldest: u64,
}

impl Cache {
    /// Reads everything from `storage` and follows it from then on, in a task of its own.
    ///
    /// # Errors
    /// When the storage cannot be read.
    pub async fn start(storage: Arc<dyn Storage>) -> Result<Arc<Self>> {
        let (newest, oldest) = storage.revision().await?;
        let mut changes = storage.watch(oldest).await?;
        let (revision, objects) = storage.list().await?;
        let cache = Self { storage, tables: RwLock::default(), applied: watch::Sender::new(revision), oldest };
        for stored in objects {
            let entry = Arc::new(Entry { revision: stored.revision, value: stored.value });
            let table = cache.table(&stored.key.table);
            table.write(|state| {
                state.newest = state.newest.max(entry.revision);
                state.objects.insert(stored.key.path, entry);
            });
        }
        tracing::debug!(revision, newest, oldest, "the store is read");
        let cache = Arc::new(cache);
        if newest > oldest
            && let Some(batch) = changes.recv().await
        {
            cache.apply(&batch, revision);
        }
        tokio::spawn(follow(Arc::downgrade(&cache), changes, revision));
        Ok(cache)
    }

    /// Changes up to `known` are in the maps already: they only fill the rings.
    fn apply(&self, batch: &[Change], known: u64) {
        for change in batch {
            let table = self.table(&change.key.table);
            table.write(|state| state.apply(change, change.revision > known));
            table.changed.send_replace(change.revision);
        }
        if let Some(last) = batch.last() {
            self.applied.send_if_modified(|applied| {
                let newer = last.revision > *applied;
                *applied = last.revision.max(*applied);
                newer
            });
        }
    }

    /// The backend below.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// A resource's table, made when it is first asked for.
    pub fn table(&self, name: &str) -> Arc<Table> {
        if let Some(table) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(table);
        }
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let table = tables.entry(name.into()).or_insert_with(|| {
            let state = TableState { trimmed: self.oldest, ..TableState::default() };
            Arc::new(Table { state: RwLock::new(state), changed: watch::Sender::new(0) })
        });
        Arc::clone(table)
    }

    /// The newest revision that readers see.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until readers see `revision`.
    pub async fn wait(&self, revision: u64) {
        let mut applied = self.applied.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _seen = applied.wait_for(|applied| *applied >= revision).await;
    }

    /// Waits until readers see everything that was acknowledged to anybody before the call.
    ///
    /// # Errors
    /// When the backend cannot tell its revision.
    pub async fn catch_up(&self) -> Result<()> {
        let (revision, _) = self.storage.revision().await?;
        if self.applied() < revision {
            self.wait(revision).await;
        }
        Ok(())
    }

    /// The objects of a resource now.
    pub fn snapshot(&self, table: &str) -> Snapshot {
        let applied = self.applied(); // Before the lock: the map then holds at least this.
        self.table(table).read(|state| Snapshot { revision: applied.max(state.newest), objects: state.objects.clone() })
    }

    /// The objects of a resource as they were at `revision`.
    ///
    /// # Errors
    /// `Compacted` when the ring does not reach back to it.
    pub fn snapshot_at(&self, table: &str, revision: u64) -> Result<Objects> {
        self.table(table).read(|state| {
            if revision < state.trimmed {
                return Err(Error::Compacted { asked: revision, oldest: state.trimmed });
            }
            let mut objects = state.objects.clone();
            for event in state.ring.iter().rev().take_while(|event| event.revision > revision) {
                match &event.previous {
                    Some(entry) => objects.insert(Arc::clone(&event.path), Arc::clone(entry)),
                    None => objects.remove(&event.path),
                };
            }
            Ok(objects)
        })
    }

    /// One object now.
    pub fn get(&self, table: &str, path: &str) -> Option<Arc<Entry>> {
        self.table(table).read(|state| state.objects.get(path).cloned())
    }

    /// Writes, and returns when readers see the write.
    ///
    /// # Errors
    /// Those of `Storage::put`; on a mismatch readers see what it was that did not match.
    pub async fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> Result<u64> {
        let result = self.storage.put(key, value, expect, ttl).await;
        self.settle(result).await
    }

    /// Deletes, and returns when readers see it.
    ///
    /// # Errors
    /// Those of `Storage::delete`; on a mismatch readers see what it was that did not match.
    pub async fn delete(&self, key: Key, expect: Expect) -> Result<u64> {
        let result = self.storage.delete(key, expect).await;
        self.settle(result).await
    }

    async fn settle(&self, result: Result<u64>) -> Result<u64> {
        match &result {
            Ok(revision) => self.wait(*revision).await,
            Err(Error::Mismatch { .. }) => self.catch_up().await?,
            Err(_) => {}
        }
        result
    }

    /// Drops what is too old from the rings, and from the log below.
    ///
    /// # Errors
    /// When the backend cannot compact.
    pub async fn compact(&self, revision: u64) -> Result<()> {
        let tables: Vec<_> = self.tables.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for table in tables {
            table.write(TableState::trim);
        }
        self.storage.compact(revision).await
    }

    /// How many objects each table holds, for metrics.
    pub fn sizes(&self) -> Vec<(Arc<str>, usize)> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.iter().map(|(name, table)| (Arc::clone(name), table.read(|state| state.objects.len()))).collect()
    }
}

/// Ends with the store, or with the copy: it must not keep either alive.
async fn follow(cache: Weak<Cache>, mut changes: Changes, known: u64) {
    while let Some(batch) = changes.recv().await {
        let Some(cache) = cache.upgrade() else { return };
        cache.apply(&batch, known);
    }
    tracing::debug!("the store has closed");
}

impl Table {
    fn read<T>(&self, with: impl FnOnce(&TableState) -> T) -> T {
        with(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, with: impl FnOnce(&mut TableState) -> T) -> T {
        with(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The revision of the newest change.
    pub fn newest(&self) -> u64 {
        self.read(|state| state.newest)
    }

    /// Tells when the table has changed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// At most `most` events after `after`, in order.
    ///
    /// # Errors
    /// `Compacted` when some of them have left the ring.
    pub fn events(&self, after: u64, most: usize) -> Result<Vec<Arc<Event>>> {
        self.read(|state| {
            if after < state.trimmed {
                return Err(Error::Compacted { asked: after, oldest: state.trimmed });
            }
            let start = state.ring.partition_point(|event| event.revision <= after);
            Ok(state.ring.iter().skip(start).take(most).cloned().collect())
        })
    }
}

impl TableState {
    fn apply(&mut self, change: &Change, new: bool) {
        let path = Arc::clone(&change.key.path);
        let previous = match self.objects.get(&path) {
            Some(entry) if new => Some(Arc::clone(entry)),
            _ => change
                .previous
                .as_ref()
                .map(|(revision, value)| Arc::new(Entry { revision: *revision, value: value.clone() })),
        };
        let object =
            change.value.as_ref().map(|value| Arc::new(Entry { revision: change.revision, value: value.clone() }));
        if new {
            match &object {
                Some(entry) => self.objects.insert(Arc::clone(&path), Arc::clone(entry)),
                None => self.objects.remove(&path),
            };
        }
        self.newest = self.newest.max(change.revision);
        self.ring_bytes += object.as_ref().map_or(0, |entry| entry.value.len());
        self.ring.push_back(Arc::new(Event {
            revision: change.revision,
            path,
            object,
            previous,
            served: OnceLock::new(),
            selectable: OnceLock::new(),
            at: Instant::now(),
        }));
        if self.ring_bytes > RING_BYTES {
            self.trim();
        }
    }

    fn trim(&mut self) {
        while let Some(event) = self.ring.front() {
            let age = event.at.elapsed();
            if age < RING_LEAST || (age < RING_MOST && self.ring_bytes <= RING_BYTES) {
                return;
            }
            self.trimmed = event.revision;
            self.ring_bytes -= event.object.as_ref().map_or(0, |entry| entry.value.len());
            self.ring.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::Cache;
    use crate::storage::memory::Memory;
    use crate::storage::{Expect, Key};

    #[tokio::test]
    async fn a_snapshot_goes_back_in_time() {
        let cache = Cache::start(Arc::new(Memory::default())).await.expect("an empty store");
        let key = Key::new("pods", "a");
        let value = |text: &'static str| Bytes::from_static(text.as_bytes());
        let first = cache.put(key.clone(), value("1"), Expect::Absent, None).await.expect("a write");
        let second = cache.put(key.clone(), value("2"), Expect::Revision(first), None).await.expect("a write");
        let third = cache.delete(key, Expect::Any).await.expect("a deletion");
        assert!(cache.get("pods", "a").is_none(), "a write is seen when it is acknowledged");
        for (revision, wanted) in [(first - 1, None), (first, Some("1")), (second, Some("2")), (third, None)] {
            let objects = cache.snapshot_at("pods", revision).expect("the ring reaches back");
            let found = objects.get("a").map(|entry| entry.value.clone());
            assert_eq!(found, wanted.map(value), "at {revision}");
        }
        let events = cache.table("pods").events(first, 10).expect("the ring reaches back");
        assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [second, third]);
    }

    #[tokio::test]
    async fn a_restart_keeps_the_ring() {
        let storage = Arc::new(Memory::default());
        let first = Cache::start(Arc::<Memory>::clone(&storage)).await.expect("an empty store");
        let key = Key::new("pods", "a");
        let one = first.put(key.clone(), Bytes::from_static(b"1"), Expect::Absent, None).await.expect("a write");
        first.put(key, Bytes::from_static(b"2"), Expect::Any, None).await.expect("a write");
        let second = Cache::start(storage).await.expect("the same store");
        assert_eq!(second.snapshot("pods").objects.len(), 1);
        assert_eq!(second.snapshot_at("pods", one).expect("in the ring")["a"].value, Bytes::from_static(b"1"));
    }

    #[tokio::test]
    async fn what_is_compacted_is_gone_after_a_restart() {
        let storage = Arc::new(Memory::default());
        let cache = Cache::start(Arc::<Memory>::clone(&storage)).await.expect("an empty store");
        let key = Key::new("pods", "a");
        let one = cache.put(key.clone(), Bytes::from_static(b"1"), Expect::Absent, None).await.expect("a write");
        let two = cache.put(key, Bytes::from_static(b"2"), Expect::Any, None).await.expect("a write");
        cache.compact(two).await.expect("compaction");
        assert!(cache.snapshot_at("pods", one).is_ok(), "the ring outlives the log");
        let cache = Cache::start(storage).await.expect("the same store");
        assert!(cache.snapshot_at("pods", one).is_err() && cache.table("pods").events(one, 1).is_err());
        assert!(cache.table("pods").events(two, 1).is_ok());
    }
}
