//! What a controller is: a row of functions. [`all`] is the table; a new controller is one more row.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::{action::Action, snapshot::Snapshot, view::Object};

/// What a controller works on: mostly an object of its own kind, else what its `keys` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object's name (for the garbage collector: its uid).
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// One object that came, changed or went. Both states are there, so that a lost label or owner wakes the right keys.
#[derive(Clone, Debug)]
pub struct Change {
    /// `pods`, `deployments.apps`, …
    pub resource: Arc<str>,
    /// The object.
    pub key: Key,
    /// Its uid.
    pub uid: Arc<str>,
    /// Before; none if it is new.
    pub(crate) old: Option<Object>,
    /// After; none if it is gone.
    pub(crate) new: Option<Object>,
}

/// How keys of one controller may run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Different keys at the same time; a key waits only for its own last write to be observed.
    PerKey,
    /// One key at a time, and each waits for the last write of *any* key: choices draw from one pool
    /// (room on nodes, CIDRs), so no two may be made on the same state.
    Serial,
}

/// One controller.
#[derive(Clone, Copy)]
pub struct Controller {
    /// As upstream names it: `deployment`, `replicaset`, …; writes are made in this name.
    pub name: &'static str,
    /// Resources whose changes are shown to `keys`. Empty: all.
    pub watches: &'static [&'static str],
    /// Which keys a change touches.
    pub keys: fn(&Snapshot, &Change) -> Vec<Key>,
    /// What to do about a key. Pure: the same snapshot, key and time give the same actions.
    pub reconcile: fn(&Snapshot, &Key, Timestamp) -> Vec<Action>,
    /// Higher first, among waiting keys of a serial controller.
    pub priority: Option<fn(&Snapshot, &Key) -> i64>,
    /// See [`Concurrency`].
    pub concurrency: Concurrency,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("name", &self.name).finish_non_exhaustive()
    }
}
