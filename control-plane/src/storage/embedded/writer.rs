//! The embedded store's writer: requests in, one transaction per batch, changes out once it is durable.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as queue;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use super::log::{self, LOG, META, OBJECTS, Object};
use super::now;
use crate::storage::{Change, Changes, Error, Expect, Key, Result};

/// A batch stops growing here, so that the first in it does not wait for the last.
const BATCH: usize = 512;

pub(super) enum Request {
    Write { write: Write, reply: oneshot::Sender<Result<u64>> },
    Watch { from: u64, reply: oneshot::Sender<Result<Changes>> },
    Compact { revision: u64, reply: oneshot::Sender<Result<()>> },
}

pub(super) struct Write {
    pub(super) key: Key,
    /// `None` deletes.
    pub(super) value: Option<Bytes>,
    pub(super) expect: Expect,
    /// Seconds since 1970; 0 is never. On a deletion by the clock, what the object must still say.
    pub(super) expiry: u64,
}

/// The thread's state.
pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) newest: Arc<AtomicU64>,
    pub(super) oldest: Arc<AtomicU64>,
    /// When objects end, soonest first. An object may have been rewritten since: the object decides.
    pub(super) expiring: BTreeSet<(u64, Key)>,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Arc<[Change]>>>,
}

type Waiting = (Write, Option<oneshot::Sender<Result<u64>>>);

impl Writer {
    /// Until the queue is closed.
    pub(super) fn run(mut self, requests: &queue::Receiver<Request>) {
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
