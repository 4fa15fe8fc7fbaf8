//! A backend without a disk, for unit tests of what stands above the storage. It loses everything at its end.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use tokio::sync::mpsc;

use super::{Change, Changes, Error, Expect, Key, Result, Storage, Stored};

/// The backend.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, (Stored, Option<Instant>)>,
    log: Vec<Change>,
    watchers: Vec<mpsc::UnboundedSender<Arc<[Change]>>>,
    closed: bool,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.expire();
        state
    }
}

impl State {
    fn check(&self, key: &Key, expect: Expect) -> Result<Option<(u64, Bytes)>> {
        if self.closed {
            return Err(Error::Closed);
        }
        let found = self.objects.get(key).map(|(stored, _)| (stored.revision, stored.value.clone()));
        let revision = found.as_ref().map(|(revision, _)| *revision);
        match expect {
            Expect::Any => Ok(found),
            Expect::Absent if revision.is_none() => Ok(None),
            Expect::Revision(wanted) if revision == Some(wanted) => Ok(found),
            Expect::Absent | Expect::Revision(_) => Err(Error::Mismatch { found: revision }),
        }
    }

    fn record(&mut self, key: Key, value: Option<Bytes>, previous: Option<(u64, Bytes)>) -> u64 {
        self.revision += 1;
        let change = Change { revision: self.revision, key, value, previous };
        self.log.push(change.clone());
        let batch: Arc<[Change]> = Arc::new([change]);
        self.watchers.retain(|watcher| watcher.send(Arc::clone(&batch)).is_ok());
        self.revision
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let due: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, (_, expiry))| expiry.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            if let Some((stored, _)) = self.objects.remove(&key) {
                self.record(key, None, Some((stored.revision, stored.value)));
            }
        }
    }
}

impl Storage for Memory {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>>> {
        ready(Ok(self.state().objects.get(key).map(|(stored, _)| stored.clone()))).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<(u64, Vec<Stored>)>> {
        let state = self.state();
        ready(Ok((state.revision, state.objects.values().map(|(stored, _)| stored.clone()).collect()))).boxed()
    }

    fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> BoxFuture<'_, Result<u64>> {
        let mut state = self.state();
        let written = state.check(&key, expect).map(|previous| {
            let revision = state.record(key.clone(), Some(value.clone()), previous);
            let stored = Stored { key: key.clone(), revision, value };
            state.objects.insert(key, (stored, ttl.map(|ttl| Instant::now() + ttl)));
            revision
        });
        ready(written).boxed()
    }

    fn delete(&self, key: Key, expect: Expect) -> BoxFuture<'_, Result<u64>> {
        let mut state = self.state();
        let deleted = state.check(&key, expect).and_then(|previous| {
            let previous = previous.ok_or(Error::Mismatch { found: None })?;
            state.objects.remove(&key);
            Ok(state.record(key, None, Some(previous)))
        });
        ready(deleted).boxed()
    }

    fn watch(&self, from: u64) -> BoxFuture<'_, Result<Changes>> {
        let mut state = self.state();
        if from < state.compacted {
            return ready(Err(Error::Compacted { asked: from, oldest: state.compacted })).boxed();
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let past: Arc<[Change]> = state.log.iter().filter(|change| change.revision > from).cloned().collect();
        if !past.is_empty() && sender.send(past).is_err() {
            return ready(Err(Error::Closed)).boxed();
        }
        state.watchers.push(sender);
        ready(Ok(receiver)).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<(u64, u64)>> {
        let state = self.state();
        ready(Ok((state.revision, state.compacted))).boxed()
    }

    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>> {
        let mut state = self.state();
        state.compacted = state.compacted.max(revision.min(state.revision));
        let oldest = state.compacted;
        state.log.retain(|change| change.revision > oldest);
        ready(Ok(())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let mut state = self.state();
        state.watchers.clear();
        state.closed = true;
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;
    use crate::storage::contract;

    #[tokio::test]
    async fn the_contract_holds() {
        contract::run(|| async { Memory::default() }).await;
    }
}
