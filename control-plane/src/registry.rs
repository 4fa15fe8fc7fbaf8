//! What every resource's verbs do, once for all: the layer between HTTP (or a controller) and the store.
//!
//! The same path for every kind; what differs per kind is `api::registry`, pure. An object is a `Value` only inside a
//! write; reads hand out stored bytes. Authorization has happened before; admission happens here.
use std::sync::Arc;
use std::time::Duration;

use api::schema::Row;
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;

use crate::allocators::Allocators;
use crate::authn::User;
use crate::authz::Rbac;
use crate::serve;
use crate::storage::cache::{Cache, Entry};
use crate::storage::{self, Key};

mod create;
mod delete;
mod eviction;
mod metadata;
mod pod;
pub mod read;
mod update;
pub mod view;
pub mod watch;

pub use delete::{DeleteOptions, Propagation};
pub(crate) use metadata::{now, random_suffix, timestamp};
pub use update::Preconditions;

/// Where a request points, and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Who.
    pub user: &'a User,
    /// The row of the version in the request.
    pub row: &'static Row,
    /// Empty when there is none.
    pub namespace: &'a str,
    /// Empty when there is none.
    pub name: &'a str,
    /// Empty when there is none.
    pub subresource: &'a str,
}

impl Target<'_> {
    /// The object's path in its table.
    pub fn path(&self) -> String {
        path_of(self.namespace, self.name)
    }

    fn key(&self) -> Key {
        Key::new(self.row.storage_key, &self.path())
    }

    fn not_found(&self) -> Status {
        Status::not_found(self.row, self.name)
    }
}

/// `namespace/name`, or `name`.
pub fn path_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// An object after a write, or as it would be after one that was only tried.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Stored bytes.
    pub value: Bytes,
    /// `None` when it was not stored.
    pub revision: Option<u64>,
    /// It is gone from the store now.
    pub deleted: bool,
    /// It was not there before.
    pub created: bool,
}

/// What the registry needs to know about the cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an event is kept.
    pub event_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { event_ttl: Duration::from_secs(3600) }
    }
}

/// The verbs.
pub struct Registry {
    /// The objects.
    pub cache: Arc<Cache>,
    /// Who may what; for the checks inside writes.
    pub rbac: Arc<Rbac>,
    /// Addresses and ports of Services.
    pub allocators: Allocators,
    /// The cluster's settings.
    pub settings: Settings,
}

impl Registry {
    fn entry(&self, target: &Target<'_>) -> Result<Arc<Entry>, Status> {
        self.cache.get(target.row.storage_key, &target.path()).ok_or_else(|| target.not_found())
    }

    /// One object, parsed, in its storage version; `None` when it is not there.
    pub fn find(&self, table: &str, namespace: &str, name: &str) -> Option<Value> {
        let entry = self.cache.get(table, &path_of(namespace, name))?;
        Some(serve::parse(&entry.value, entry.revision))
    }

    fn ttl(&self, row: &Row) -> Option<Duration> {
        (row.storage_key == "events").then_some(self.settings.event_ttl)
    }
}

/// The refusal for a store that failed; a mismatch is the caller's to understand.
fn failed(error: &storage::Error) -> Status {
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    Status::internal(error)
}

/// The object's own words for "this user and this resource" to `api::registry`.
fn context<'a>(target: &Target<'a>) -> api::registry::Ctx<'a> {
    api::registry::Ctx {
        row: target.row.storage_row(),
        now: jiff::Timestamp::now(),
        user: &target.user.name,
        subresource: Some(target.subresource).filter(|name| !name.is_empty()),
    }
}
