//! Durable objects on one global revision: the seam below the API server.
//!
//! A backend keeps bytes under keys and a log of what changed since the last compaction, so that watches and
//! continue tokens survive a restart. Nobody reads from it while serving: every read is answered by `cache`, the
//! copy in memory, which follows `watch`. `contract` is the one suite that every backend passes. A backend knows
//! nothing of Kubernetes: no kinds, no metadata.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

pub mod cache;
#[cfg(test)]
mod contract;
pub mod embedded;
pub mod memory;

/// Where an object is kept: a resource's table and `namespace/name`, or `name` for what has no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The row's storage key: `pods`, `services/specs`, `minions`.
    pub table: Arc<str>,
    /// `namespace/name` or `name`.
    pub path: Arc<str>,
}

impl Key {
    /// A key of `table`.
    pub fn new(table: &str, path: &str) -> Self {
        Self { table: table.into(), path: path.into() }
    }
}

/// What a writer believes about the key at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// The last write of this key had this revision.
    Revision(u64),
    /// Whatever is there.
    Any,
}

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub key: Key,
    /// The revision that wrote it.
    pub revision: u64,
    /// The object's bytes.
    pub value: Bytes,
}

/// One change, in the order of revisions; it is durable when anybody sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of this change; no two changes share one.
    pub revision: u64,
    /// What changed.
    pub key: Key,
    /// The bytes after; `None` is a deletion.
    pub value: Option<Bytes>,
    /// The revision and bytes before; `None` is a creation.
    pub previous: Option<(u64, Bytes)>,
}

/// Why a backend refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `Expect` did not hold; with the revision found, if the key exists.
    #[error("the key is at revision {found:?}, not as expected")]
    Mismatch {
        /// The key's revision; `None` when it is absent.
        found: Option<u64>,
    },
    /// A revision that the log no longer reaches back to.
    #[error("revision {asked} is compacted, the oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        asked: u64,
        /// The oldest that can be watched from.
        oldest: u64,
    },
    /// The embedded database failed.
    #[error("the database failed to {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Box<redb::Error>,
    },
    /// The database's file is from another version.
    #[error("the store has format {found}, this program knows {known}")]
    Format {
        /// The format in the file.
        found: u64,
        /// The format of this program.
        known: u64,
    },
    /// The writer is gone: the server stops.
    #[error("the store is closed")]
    Closed,
}

/// The answer of a backend.
pub type Result<T> = std::result::Result<T, Error>;

/// What a watch delivers: the changes of one durable commit, in order.
pub type Changes = mpsc::UnboundedReceiver<Arc<[Change]>>;

/// A backend.
///
/// `put` and `delete` return only when the write is durable. `revision` is linearizable: it is not less than any
/// revision that was returned to anybody before the call.
pub trait Storage: Send + Sync + 'static {
    /// One object.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Stored>>>;
    /// Every object, in the order of keys, and the revision at which this was so.
    fn list(&self) -> BoxFuture<'_, Result<(u64, Vec<Stored>)>>;
    /// Writes and returns the new revision. After `ttl` the object deletes itself, with a revision of its own.
    fn put(&self, key: Key, value: Bytes, expect: Expect, ttl: Option<Duration>) -> BoxFuture<'_, Result<u64>>;
    /// Deletes and returns the revision of the deletion; a key that is absent is a `Mismatch`.
    fn delete(&self, key: Key, expect: Expect) -> BoxFuture<'_, Result<u64>>;
    /// Every change after `from`, without a gap: first from the log, then as they happen.
    fn watch(&self, from: u64) -> BoxFuture<'_, Result<Changes>>;
    /// The newest revision and the oldest that `watch` accepts.
    fn revision(&self) -> BoxFuture<'_, Result<(u64, u64)>>;
    /// Forgets the log up to and including `revision`.
    fn compact(&self, revision: u64) -> BoxFuture<'_, Result<()>>;
    /// Ends it: what was accepted is finished first, watches end, everything after is refused with `Closed`.
    fn close(&self) -> BoxFuture<'_, ()>;
}
