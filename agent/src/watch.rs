//! The API server's objects → the engine's inbox: the only reader of the API.
//!
//! Objects are deserialised straight into the projections of `objects`; a full list replaces a store whole, so that
//! what went away during an outage goes, and nothing else does. While the API server is away the stores stay as they
//! are. A change of nothing that we look at (a heartbeat, a managed field) wakes nobody.
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    core::ObjectMeta,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use objects::{EndpointSlice, Key, Namespace, NetworkPolicy, Node, Object, Pod, Service, Store};
use serde::{Deserialize, Deserializer};
use tokio::sync::watch::Sender;

use crate::{engine::Inbox, snapshot::Snapshot};

/// How the watches are.
#[derive(Debug, Default)]
pub struct Board {
    watches: Mutex<BTreeMap<&'static str, WatchState>>,
    synced: Sender<usize>,
}

/// How one watch is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchState {
    /// A whole list has been seen.
    pub synced: bool,
    /// What went wrong last; empty while it is well.
    pub error: String,
}

/// Kinds that are watched.
const KINDS: usize = 6;

impl Board {
    /// How each watch is, by kind.
    pub fn states(&self) -> BTreeMap<&'static str, WatchState> {
        self.watches.lock().expect("no holder panics").clone()
    }

    /// True once every watch has seen a whole list.
    pub fn all_synced(&self) -> bool {
        *self.synced.borrow() == KINDS
    }

    /// Returns when every watch has seen a whole list.
    pub async fn wait(&self) {
        // The sender is ours: it cannot go before we do.
        let _ = self.synced.subscribe().wait_for(|count| *count == KINDS).await;
    }

    fn set(&self, kind: &'static str, change: impl FnOnce(&mut WatchState)) {
        let mut watches = self.watches.lock().expect("no holder panics");
        change(watches.entry(kind).or_default());
        let count = watches.values().filter(|state| state.synced).count();
        self.synced.send_if_modified(|old| std::mem::replace(old, count) != count);
    }
}

/// Starts every watch; they run as long as the runtime does.
pub fn start(client: &Client, inbox: &Arc<Inbox>) -> Arc<Board> {
    let board = Arc::new(Board::default());
    spawn::<Node>(client, inbox, &board);
    spawn::<Namespace>(client, inbox, &board);
    spawn::<Pod>(client, inbox, &board);
    spawn::<NetworkPolicy>(client, inbox, &board);
    spawn::<Service>(client, inbox, &board);
    spawn::<EndpointSlice>(client, inbox, &board);
    board
}

/// A kind with a place in the snapshot.
trait Watched: Object {
    fn store(snapshot: &mut Snapshot) -> &mut Arc<Store<Self>>;
    /// Equal but for the resource version.
    fn says_the_same(&self, other: &Self) -> bool;
}

macro_rules! watched {
    ($($kind:ident $field:ident;)*) => {$(
        impl Watched for $kind {
            fn store(snapshot: &mut Snapshot) -> &mut Arc<Store<Self>> {
                &mut snapshot.$field
            }
            fn says_the_same(&self, other: &Self) -> bool {
                let version = other.version.clone();
                Self { version, ..self.clone() } == *other
            }
        }
    )*};
}

watched! {
    Node nodes;
    Namespace namespaces;
    Pod pods;
    NetworkPolicy policies;
    Service services;
    EndpointSlice slices;
}

fn spawn<T: Watched>(client: &Client, inbox: &Arc<Inbox>, board: &Arc<Board>) {
    board.set(T::API.kind, |_| {});
    tokio::spawn(follow::<T>(Api::all(client.clone()), inbox.clone(), board.clone()));
}

async fn follow<T: Watched>(api: Api<Seen<T>>, inbox: Arc<Inbox>, board: Arc<Board>) {
    let kind = T::API.kind;
    let stream = watcher(api, watcher::Config::default()).backoff(Patience::default());
    let mut stream = std::pin::pin!(stream);
    let mut listed = Store::<T>::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                board.set(kind, |state| state.error.clear());
                if take(event, &mut listed, &inbox) {
                    board.set(kind, |state| state.synced = true);
                }
            }
            Err(error) => {
                let text = brief(&error);
                board.set(kind, |state| {
                    if state.error != text {
                        tracing::warn!(kind, error = text, "the watch is interrupted; what is known stays in force");
                        state.error = text;
                    }
                });
            }
        }
    }
}

/// The server's own words, if it said something: kube's error repeats the whole Status.
fn brief(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.message.clone(),
        other => crate::chain(other),
    }
}

/// True when a whole list has come in.
fn take<T: Watched>(event: watcher::Event<Seen<T>>, listed: &mut Store<T>, inbox: &Inbox) -> bool {
    match event {
        watcher::Event::Init => listed.clear(),
        watcher::Event::InitApply(seen) => {
            listed.insert(seen.object.key().clone(), Arc::new(seen.object));
        }
        watcher::Event::InitDone => {
            let all = Arc::new(std::mem::take(listed));
            inbox.change(|state| *T::store(state) = all);
            return true;
        }
        watcher::Event::Apply(seen) => {
            let key = seen.object.key().clone();
            let same = |old: &Arc<T>| old.says_the_same(&seen.object);
            if !T::store(&mut inbox.snapshot()).get(&key).is_some_and(same) {
                inbox.change(|state| {
                    Arc::make_mut(T::store(state)).insert(key, Arc::new(seen.object));
                });
            }
        }
        watcher::Event::Delete(seen) => inbox.change(|state| {
            Arc::make_mut(T::store(state)).remove(seen.object.key());
        }),
    }
    false
}

/// A projection in the shape that kube's watcher wants: with the metadata that it follows.
#[derive(Clone, Debug)]
struct Seen<T> {
    metadata: ObjectMeta,
    object: T,
}

impl<'de, T: Object> Deserialize<'de> for Seen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = T::deserialize(deserializer)?;
        let Key { namespace, name } = object.key();
        let metadata = ObjectMeta {
            name: Some(name.to_string()),
            namespace: Some(namespace.to_string()).filter(|namespace| !namespace.is_empty()),
            uid: Some(object.uid().to_owned()),
            resource_version: Some(object.version().to_owned()),
            ..ObjectMeta::default()
        };
        Ok(Seen { metadata, object })
    }
}

impl<T: Object> Resource for Seen<T> {
    type DynamicType = ();
    type Scope = kube::core::DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::API.kind.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        T::API.group.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        T::API.version.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        T::API.plural.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Short at first, since an agent often starts before its API server; never long, since a change may be waiting.
#[derive(Debug, Default)]
struct Patience {
    tries: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.tries = (self.tries + 1).min(5);
        Some(Duration::from_millis(100 << self.tries))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: &str, label: &str) -> Seen<Pod> {
        let json = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n","resourceVersion":"{version}","labels":{{"a":"{label}"}}}}}}"#
        );
        serde_json::from_str(&json).expect("a pod")
    }

    #[test]
    fn a_list_replaces_the_store_whole() {
        let inbox = Inbox::default();
        let mut listed = Store::new();
        assert!(!take(watcher::Event::Apply(pod("1", "x")), &mut listed, &inbox));
        assert_eq!(inbox.snapshot().pods.len(), 1);
        take::<Pod>(watcher::Event::Init, &mut listed, &inbox);
        assert_eq!(inbox.snapshot().pods.len(), 1, "nothing goes before the list is whole");
        assert!(take::<Pod>(watcher::Event::InitDone, &mut listed, &inbox));
        assert_eq!(inbox.snapshot().pods.len(), 0);
    }

    #[test]
    fn only_what_we_look_at_is_a_change() {
        let inbox = Inbox::default();
        let mut listed = Store::new();
        take(watcher::Event::Apply(pod("1", "x")), &mut listed, &inbox);
        let before = inbox.snapshot().pods;
        take(watcher::Event::Apply(pod("2", "x")), &mut listed, &inbox);
        assert!(Arc::ptr_eq(&before, &inbox.snapshot().pods));
        take(watcher::Event::Apply(pod("3", "y")), &mut listed, &inbox);
        assert!(!Arc::ptr_eq(&before, &inbox.snapshot().pods));
    }

    #[test]
    fn it_follows_the_resource_version() {
        assert_eq!(pod("7", "x").meta().resource_version.as_deref(), Some("7"));
    }
}
