//! The embedded backend: redb in one file, one writer thread, many writes per durable commit.
//!
//! Every write waits in the thread's queue while the disk makes the batch before it durable; then all that wait
//! become the next batch. Changes are published, and writers answered, only after the commit. The format of the file
//! is in `embedded_log`.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use super::embedded_log::{self as log, LOG, META, OBJECTS, Object};
use super::{Change, Changes, Error, Expect, Key, Result, Storage, Stored};

/// redb's own cache; reads come from the copy in memory, so it only has to serve the writer's lookups.
const CACHE_BYTES: usize = 8 << 20;
/// A batch stops growing here, so that the first in it does not wait for the last.
const BATCH: usize = 512;

/// The backend.
pub struct Embedded {
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
    newest: Arc<AtomicU64>,
    oldest: Arc<AtomicU64>,
}

struct Open {
    database: Arc<Database>,
    requests: queue::Sender<Request>,
    writer: JoinHandle<()>,
}

enum Request {
    Write { write: Write, reply: oneshot::Sender<Result<u64>> },
    Watch { from: u64, reply: oneshot::Sender<Result<Changes>> },
    Compact { revision: u64, reply: oneshot::Sender<Result<()>> },
}

struct Write {
    key: Key,
    /// `None` deletes.
    value: Option<Bytes>,
    expect: Expect,
    /// Seconds since 1970; 0 is never. On a deletion by the clock, what the object must still say.
    expiry: u64,
}

impl Embedded {
    /// Opens the store at `path`, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened or made, or has another format.
    pub fn open(path: &Path) -> Result<Self> {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|source| log::failed("open the store", source))?;
        let (newest, oldest) = log::initialise(&database)?;
        let expiring = log::expiring(&database)?;
        let database = Arc::new(database);
        let newest = Arc::new(AtomicU64::new(newest));
        let oldest = Arc::new(AtomicU64::new(oldest));
        let (requests, received) = queue::channel();
        let writer = Writer {
            database: Arc::clone(&database),
            newest: Arc::clone(&newest),
            oldest: Arc::clone(&oldest),
            expiring,
            watchers: Vec::new(),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|source| log::failed("start the writer thread", redb::Error::Io(source)))?;
        let open = Mutex::new(Some(Open { database, requests, writer }));
        Ok(Self { open, newest, oldest })
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> BoxFuture<'_, Result<T>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.with_open(|open| open.requests.send(request(reply)).is_ok()).unwrap_or(false);
        async move { if sent { answer.await.unwrap_or(Err(Error::Closed)) } else { Err(Error::Closed) } }.boxed()
    }

    fn with_open<T>(&self, with: impl FnOnce(&Open) -> T) -> Result<T> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(with).ok_or(Error::Closed)
    }

    fn begin_read(&self) -> Result<ReadTransaction> {
        let database = self.with_open(|open| Arc::clone(&open.database))?;
        database.begin_read().map_err(|e| log::failed("begin a read", e))
    }

    fn read(&self, key: &Key) -> Result<Option<Stored>> {
        let read = self.begin_read()?;
        let objects = read.open_table(OBJECTS).map_err(|e| log::failed("open the objects", e))?;
        let found = objects.get(&log::encode_key(key)[..]).map_err(|e| log::failed("read an object", e))?;
        Ok(found.map(|value| Object::decode(value.value()).stored(key.clone())))
    }

    fn read_all(&self) -> Result<(u64, Vec<Stored>)> {
        let read = self.begin_read()?;
        let revision = log::counter(&read, log::NEWEST)?;
        let objects = read.open_table(OBJECTS).map_err(|e| log::failed("open the objects", e))?;
        let mut all = Vec::new();
        for item in objects.iter().map_err(|e| log::failed("list the objects", e))? {
            let (key, value) = item.map_err(|e| log::failed("read an object", e))?;
            all.push(Object::decode(value.value()).stored(log::decode_key(key.value())));
        }
        Ok((revision, all))
    }
}

/// The writer ends when its queue does, and the file is free when the writer has.
fn close(open: Open) {
    drop(open.requests);
    if open.writer.join().is_err() {
        tracing::error!("the store's writer thread panicked");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            close(open);
        }
    }
}

impl Storage for Embedded {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>>> {
        ready(self.read(key)).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<(u64, Vec<Stored>)>> {
        ready(self.read_all()).boxed()
    }

    fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> BoxFuture<'_, Result<u64>> {
        let expiry = ttl.map_or(0, |ttl| now() + ttl.as_secs().max(1));
        let write = Write { key, value: Some(value), expect, expiry };
        self.ask(|reply| Request::Write { write, reply })
    }

    fn delete(&self, key: Key, expect: Expect) -> BoxFuture<'_, Result<u64>> {
        let write = Write { key, value: None, expect, expiry: 0 };
        self.ask(|reply| Request::Write { write, reply })
    }

    fn watch(&self, from: u64) -> BoxFuture<'_, Result<Changes>> {
        self.ask(|reply| Request::Watch { from, reply })
    }

    fn revision(&self) -> BoxFuture<'_, Result<(u64, u64)>> {
        ready(Ok((self.newest.load(Ordering::SeqCst), self.oldest.load(Ordering::SeqCst)))).boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>> {
        self.ask(|reply| Request::Compact { revision, reply })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move {
            if let Some(open) = open {
                let closed = tokio::task::spawn_blocking(move || close(open)).await;
                closed.unwrap_or_else(|error| tracing::error!(%error, "the store did not close"));
            }
        }
        .boxed()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Writer {
    database: Arc<Database>,
    newest: Arc<AtomicU64>,
    oldest: Arc<AtomicU64>,
    /// When objects end, soonest first. An object may have been rewritten since: the object decides.
    expiring: BTreeSet<(u64, Key)>,
    watchers: Vec<mpsc::UnboundedSender<Arc<[Change]>>>,
}

type Waiting = (Write, Option<oneshot::Sender<Result<u64>>>);

impl Writer {
    fn run(mut self, requests: &queue::Receiver<Request>) {
        loop {
            let wait = if self.expiring.is_empty() { Duration::from_secs(3600) } else { Duration::from_millis(500) };
            let mut batch: Vec<Waiting> = Vec::new();
            match requests.recv_timeout(wait) {
                Ok(first) => self.collect(first, requests, &mut batch),
                Err(queue::RecvTimeoutError::Timeout) => {}
                Err(queue::RecvTimeoutError::Disconnected) => return,
            }
            batch.extend(self.due().map(|write| (write, None)));
            if !batch.is_empty() {
                self.commit(batch);
            }
        }
    }

    fn collect(&mut self, first: Request, requests: &queue::Receiver<Request>, batch: &mut Vec<Waiting>) {
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write { write, reply } => batch.push((write, Some(reply))),
                Request::Watch { from, reply } => {
                    let answer = self.subscribe(from);
                    // The one who asked may be gone; the watcher is then dropped at the next change.
                    let _gone = reply.send(answer);
                }
                Request::Compact { revision, reply } => {
                    let _gone = reply.send(self.compact(revision));
                }
            }
            next = if batch.len() < BATCH { requests.try_recv().ok() } else { None };
        }
    }

    fn due(&mut self) -> impl Iterator<Item = Write> + use<> {
        let now = now();
        let later = self.expiring.split_off(&(now + 1, Key::new("", "")));
        std::mem::replace(&mut self.expiring, later).into_iter().map(|(expiry, key)| Write {
            key,
            value: None,
            expect: Expect::Any,
            expiry,
        })
    }

    fn commit(&mut self, batch: Vec<Waiting>) {
        match self.write(&batch) {
            Ok((results, changes)) => {
                if let Some(last) = changes.last() {
                    self.newest.store(last.revision, Ordering::SeqCst);
                    let changes: Arc<[Change]> = changes.into();
                    self.watchers.retain(|watcher| watcher.send(Arc::clone(&changes)).is_ok());
                }
                for ((write, reply), result) in batch.into_iter().zip(results) {
                    if result.is_ok() && write.value.is_some() && write.expiry != 0 {
                        self.expiring.insert((write.expiry, write.key));
                    }
                    if let Some(reply) = reply {
                        let _gone = reply.send(result);
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, writes = batch.len(), "a commit failed");
                let mut error = Some(error);
                for (_, reply) in batch {
                    if let Some(reply) = reply {
                        let _gone = reply.send(Err(error.take().unwrap_or(Error::Closed)));
                    }
                }
            }
        }
    }

    /// One transaction: each write on what the ones before it left.
    fn write(&self, batch: &[Waiting]) -> Result<(Vec<Result<u64>>, Vec<Change>)> {
        let transaction = self.database.begin_write().map_err(|e| log::failed("begin a commit", e))?;
        let mut revision = self.newest.load(Ordering::SeqCst);
        let mut changes = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        {
            let mut objects = transaction.open_table(OBJECTS).map_err(|e| log::failed("open the objects", e))?;
            let mut entries = transaction.open_table(LOG).map_err(|e| log::failed("open the log", e))?;
            for (write, _) in batch {
                let applied = apply(&mut objects, write, revision + 1)?;
                results.push(applied.map(|change| {
                    revision += 1;
                    changes.push(change);
                    revision
                }));
            }
            for change in &changes {
                entries
                    .insert(change.revision, &log::encode_entry(change)[..])
                    .map_err(|e| log::failed("write the log", e))?;
            }
            let mut meta = transaction.open_table(META).map_err(|e| log::failed("open the counters", e))?;
            meta.insert(log::NEWEST, revision).map_err(|e| log::failed("write the revision", e))?;
        }
        if changes.is_empty() {
            transaction.abort().map_err(|e| log::failed("abort an empty commit", e))?;
        } else {
            transaction.commit().map_err(|e| log::failed("commit", e))?;
        }
        Ok((results, changes))
    }

    fn subscribe(&mut self, from: u64) -> Result<Changes> {
        let oldest = self.oldest.load(Ordering::SeqCst);
        if from < oldest {
            return Err(Error::Compacted { asked: from, oldest });
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        if from < self.newest.load(Ordering::SeqCst) {
            let past = log::since(&self.database, from)?;
            sender.send(past.into()).map_err(|_closed| Error::Closed)?;
        }
        self.watchers.push(sender);
        Ok(receiver)
    }

    fn compact(&self, revision: u64) -> Result<()> {
        let revision = revision.min(self.newest.load(Ordering::SeqCst));
        if revision <= self.oldest.load(Ordering::SeqCst) {
            return Ok(());
        }
        log::forget(&self.database, revision)?;
        self.oldest.store(revision, Ordering::SeqCst);
        Ok(())
    }
}

/// The inner result is the writer's, the outer one the whole batch's.
fn apply(
    objects: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    write: &Write,
    revision: u64,
) -> Result<Result<Change>> {
    let key = log::encode_key(&write.key);
    let found = objects.get(&key[..]).map_err(|e| log::failed("read an object", e))?;
    let found = found.map(|value| Object::decode(value.value()));
    let held = match (write.expect, &found) {
        (Expect::Any, None) => write.value.is_some(),
        (Expect::Any, Some(object)) => write.value.is_some() || write.expiry == 0 || object.expiry == write.expiry,
        (Expect::Absent, found) => found.is_none(),
        (Expect::Revision(wanted), found) => found.as_ref().is_some_and(|object| object.revision == wanted),
    };
    if !held {
        return Ok(Err(Error::Mismatch { found: found.map(|object| object.revision) }));
    }
    match &write.value {
        Some(value) => {
            let object = Object { revision, expiry: write.expiry, value: value.clone() };
            objects.insert(&key[..], &object.encode()[..]).map_err(|e| log::failed("write an object", e))?;
        }
        None => {
            objects.remove(&key[..]).map_err(|e| log::failed("delete an object", e))?;
        }
    }
    let previous = found.map(|object| (object.revision, object.value));
    Ok(Ok(Change { revision, key: write.key.clone(), value: write.value.clone(), previous }))
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Embedded, Expect, Key, Storage};
    use crate::storage::contract;

    #[tokio::test]
    async fn the_contract_holds() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut number = 0;
        contract::run(|| {
            number += 1;
            let path = directory.path().join(format!("{number}.redb"));
            async move { Embedded::open(&path).expect("a new store") }
        })
        .await;
    }

    #[tokio::test]
    async fn objects_and_log_survive_a_restart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("store.redb");
        let key = Key::new("pods", "a/b");
        let first = {
            let store = Embedded::open(&path).expect("a new store");
            let first = store.put(key.clone(), Bytes::from_static(b"1"), Expect::Absent, None).await.expect("a write");
            store.put(key.clone(), Bytes::from_static(b"2"), Expect::Any, None).await.expect("a write");
            first
        };
        let store = Embedded::open(&path).expect("the same store");
        let stored = store.get(&key).await.expect("a read").expect("it is there");
        assert_eq!((stored.revision, &stored.value[..]), (first + 1, &b"2"[..]));
        let batch = store.watch(first).await.expect("the log is there").recv().await.expect("a change");
        assert_eq!(batch[0].previous, Some((first, Bytes::from_static(b"1"))));
    }
}
