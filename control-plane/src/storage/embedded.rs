//! The embedded backend: redb in one file, one writer thread, many writes per durable commit.
//!
//! Every write waits in the thread's queue while the disk makes the batch before it durable; then all that wait
//! become the next batch. Changes are published, and writers answered, only after the commit. The format of the file
//! is in `log`.
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

use super::{Changes, Error, Expect, Key, Result, Storage, Stored};

mod log;
mod writer;

use log::{OBJECTS, Object};
use writer::{Request, Write, Writer};

/// redb's own cache; reads come from the copy in memory, so it only has to serve the writer's lookups.
const CACHE_BYTES: usize = 8 << 20;
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

impl Embedded {
    /// Opens the store at `path`, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened or made, or has another format.
    pub fn open(path: &Path) -> Result<Self> {
        // Secrets are in it. redb makes its file where there is an empty one.
        let mut options = OpenOptions::new();
        let made = options.create(true).append(true).mode(0o600).open(path);
        made.map_err(|source| log::failed("make the store's file", redb::Error::Io(source)))?;
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
