//! The cluster as the controllers see it: typed projections with the indexes that make a reconcile cost what it changes,
//! not what the cluster holds.
//!
//! Written by one thread ([`Snapshot::apply`]), read by reconcile functions under a read lock. Everything in it is derived
//! from objects, but for two observations: when a node was last heard of, in time that this process really watched
//! ([`Snapshot::tick`]), and the last error of a key.

mod heartbeat;
mod index;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

pub(crate) use heartbeat::Heard;
pub(crate) use index::{Indexes, Item, SERVICE_LABEL};
pub(crate) use table::Table;

use crate::{
    controller::{Change, Key},
    resource,
    scheduler::{Amounts, Usage},
    settings::Settings,
    view::{
        Budget, ConfigMap, ControllerRevision, DaemonSet, Deployment, Endpoints, Lease, Namespace, Node, Object, Pod,
        ReplicaSet, Service, Slice,
    },
};

/// A resource that the server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `deployments.apps`.
    pub resource: String,
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its objects live in namespaces.
    pub namespaced: bool,
}

/// All objects, indexed.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) settings: Settings,
    /// The newest change in it.
    pub(crate) revision: u64,
    /// Time during which this process watched the cluster; stands still while it did not.
    pub(crate) watched: Duration,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) pods: Table<Pod>,
    pub(crate) nodes: Table<Node>,
    pub(crate) namespaces: Table<Namespace>,
    pub(crate) services: Table<Service>,
    pub(crate) endpoints: Table<Endpoints>,
    pub(crate) slices: Table<Slice>,
    pub(crate) config_maps: Table<ConfigMap>,
    pub(crate) deployments: Table<Deployment>,
    pub(crate) replica_sets: Table<ReplicaSet>,
    pub(crate) replication_controllers: Table<ReplicaSet>,
    pub(crate) daemon_sets: Table<DaemonSet>,
    pub(crate) revisions: Table<ControllerRevision>,
    pub(crate) leases: Table<Lease>,
    pub(crate) budgets: Table<Budget>,
    pub(crate) indexes: Indexes,
    /// By node name.
    pub(crate) heard: HashMap<String, Heard>,
    /// Nodes that went, and when in watched time.
    pub(crate) gone: HashMap<String, Duration>,
    /// What the pods of a node take of it, by node name.
    pub(crate) usage: HashMap<String, Usage>,
    /// What a node offers to pods, by node name.
    pub(crate) room: HashMap<String, Amounts>,
    /// The last error of a controller's key, until it succeeds.
    failures: HashMap<(&'static str, Key), String>,
}

impl Snapshot {
    /// An empty cluster.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            revision: 0,
            watched: Duration::ZERO,
            kinds: Vec::new(),
            pods: Table::default(),
            nodes: Table::default(),
            namespaces: Table::default(),
            services: Table::default(),
            endpoints: Table::default(),
            slices: Table::default(),
            config_maps: Table::default(),
            deployments: Table::default(),
            replica_sets: Table::default(),
            replication_controllers: Table::default(),
            daemon_sets: Table::default(),
            revisions: Table::default(),
            leases: Table::default(),
            budgets: Table::default(),
            indexes: Indexes::default(),
            heard: HashMap::new(),
            gone: HashMap::new(),
            usage: HashMap::new(),
            room: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// The newest revision applied.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Which kinds the server serves.
    pub fn set_kinds(&mut self, kinds: Vec<Kind>) {
        self.kinds = kinds;
    }

    /// Time passed while this process was watching.
    pub fn tick(&mut self, passed: Duration) {
        self.watched += passed;
    }

    /// All that is known happened up to this revision.
    pub fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// Takes in one object. None if it is not news: seen before, or older than what is there.
    ///
    /// # Errors
    /// The JSON is not an object of that resource; the snapshot is unchanged.
    pub fn apply(
        &mut self,
        resource: &str,
        object: &[u8],
        revision: u64,
        deleted: bool,
    ) -> Result<Option<Change>, serde_json::Error> {
        let object = Object::decode(resource, object)?;
        let item = Item::new(self.indexes.intern(resource), object.meta(), revision);
        if let Some(known) = self.indexes.item(resource, &item.key) {
            let stale = if deleted { known.uid != item.uid } else { known.revision >= item.revision };
            if stale {
                return Ok(None);
            }
        } else if deleted {
            return Ok(None);
        }
        self.advance(revision);
        let (key, uid, resource) = (item.key.clone(), Arc::clone(&item.uid), Arc::clone(&item.resource));
        let old = self.swap(&resource, &key, if deleted { None } else { Some(&object) });
        self.indexes.replace(&item, old.as_ref(), (!deleted).then_some(&object));
        let new = (!deleted).then_some(object);
        self.observe(old.as_ref(), new.as_ref());
        Ok(Some(Change { resource, key, uid, old, new }))
    }

    /// Keys of a resource that are here but not in `listed`: gone while nobody watched.
    pub fn missing(&self, resource: &str, listed: &BTreeSet<Key>) -> Vec<Key> {
        self.indexes.keys(resource).filter(|key| !listed.contains(key)).cloned().collect()
    }

    /// Takes out an object that a list no longer has.
    pub fn remove(&mut self, resource: &str, key: &Key) -> Option<Change> {
        let item = self.indexes.item(resource, key)?.clone();
        let old = self.swap(resource, key, None);
        self.indexes.replace(&item, old.as_ref(), None);
        self.observe(old.as_ref(), None);
        Some(Change {
            resource: Arc::clone(&item.resource),
            key: key.clone(),
            uid: Arc::clone(&item.uid),
            old,
            new: None,
        })
    }

    /// Remembers, or forgets, why a key of a controller failed.
    pub fn note_failure(&mut self, controller: &'static str, key: &Key, error: Option<String>) {
        match error {
            Some(error) => self.failures.insert((controller, key.clone()), error),
            None => self.failures.remove(&(controller, key.clone())),
        };
    }

    /// Why a key of a controller failed the last time, if it did.
    pub(crate) fn failure(&self, controller: &'static str, key: &Key) -> Option<&str> {
        if self.failures.is_empty() {
            return None;
        }
        self.failures.get(&(controller, key.clone())).map(String::as_str)
    }

    /// Whether a namespace exists and is not being deleted.
    pub(crate) fn namespace_active(&self, name: &str) -> bool {
        self.namespaces.named("", name).is_some_and(|ns| !ns.meta.deleting() && ns.status.phase != "Terminating")
    }

    /// Objects of a resource controlled by this uid.
    pub(crate) fn owned<'a, T>(&'a self, uid: &str, resource: &'static str, table: &'a Table<T>) -> Vec<&'a Arc<T>> {
        self.indexes.dependents_of(uid, resource).filter_map(|key| table.get(key)).collect()
    }

    /// Objects of a resource in a namespace that nobody controls.
    pub(crate) fn orphans<'a, T>(
        &'a self,
        namespace: &str,
        resource: &'static str,
        table: &'a Table<T>,
    ) -> Vec<&'a Arc<T>> {
        self.indexes.orphans(resource, namespace).filter_map(|key| table.get(key)).collect()
    }

    /// Pods bound to a node.
    pub(crate) fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.indexes.pods_by_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    /// Pods of a namespace with all these labels; an empty selector selects none.
    pub(crate) fn selected_pods<'a>(
        &'a self,
        namespace: &'a str,
        selector: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.indexes
            .selected_pods(namespace, selector)
            .filter_map(|key| self.pods.get(key))
            .filter(|pod| crate::view::contains_all(&pod.meta.labels, selector))
    }

    /// Puts or takes an object in its typed table; returns what was there.
    fn swap(&mut self, resource: &str, key: &Key, object: Option<&Object>) -> Option<Object> {
        macro_rules! tables {
            ($($variant:ident => $table:expr),* $(,)?) => {
                match object {
                    $(Some(Object::$variant(new)) => return $table.insert(key.clone(), Arc::clone(new)).map(Object::$variant),)*
                    Some(Object::ReplicaSet(new)) => {
                        let table = if new.legacy { &mut self.replication_controllers } else { &mut self.replica_sets };
                        return table.insert(key.clone(), Arc::clone(new)).map(Object::ReplicaSet);
                    }
                    Some(Object::Other(_)) | None => {}
                }
            };
        }
        tables! {
            Pod => self.pods, Node => self.nodes, Namespace => self.namespaces, Service => self.services,
            Endpoints => self.endpoints, Slice => self.slices, ConfigMap => self.config_maps,
            Deployment => self.deployments, DaemonSet => self.daemon_sets, Revision => self.revisions,
            Lease => self.leases, Budget => self.budgets,
        }
        match resource {
            resource::PODS => self.pods.remove(key).map(Object::Pod),
            resource::NODES => self.nodes.remove(key).map(Object::Node),
            resource::NAMESPACES => self.namespaces.remove(key).map(Object::Namespace),
            resource::SERVICES => self.services.remove(key).map(Object::Service),
            resource::ENDPOINTS => self.endpoints.remove(key).map(Object::Endpoints),
            resource::SLICES => self.slices.remove(key).map(Object::Slice),
            resource::CONFIG_MAPS => self.config_maps.remove(key).map(Object::ConfigMap),
            resource::DEPLOYMENTS => self.deployments.remove(key).map(Object::Deployment),
            resource::REPLICA_SETS => self.replica_sets.remove(key).map(Object::ReplicaSet),
            resource::REPLICATION_CONTROLLERS => self.replication_controllers.remove(key).map(Object::ReplicaSet),
            resource::DAEMON_SETS => self.daemon_sets.remove(key).map(Object::DaemonSet),
            resource::CONTROLLER_REVISIONS => self.revisions.remove(key).map(Object::Revision),
            resource::LEASES => self.leases.remove(key).map(Object::Lease),
            resource::BUDGETS => self.budgets.remove(key).map(Object::Budget),
            _ => self.indexes.item(resource, key).map(Item::as_object),
        }
    }

    /// Keeps what is derived from pods and heartbeats.
    fn observe(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if let Some(Object::Pod(pod)) = old {
            Usage::remove_pod(&mut self.usage, pod);
        }
        if let Some(Object::Service(service)) = new.or(old) {
            self.indexes.select(&service.meta.key(), first_selected(old), first_selected(new), &self.pods);
        }
        match new {
            Some(Object::Pod(pod)) => Usage::add_pod(&mut self.usage, pod),
            Some(Object::Lease(lease)) => self.hear_lease(lease),
            Some(Object::Node(node)) => {
                self.hear_node(node);
                self.room.insert(node.meta.name.clone(), Usage::room(node));
            }
            _ => {}
        }
        if let (Some(Object::Node(node)), None) = (old, new) {
            self.heard.remove(&node.meta.name);
            self.room.remove(&node.meta.name);
            self.gone.insert(node.meta.name.clone(), self.watched);
        }
    }
}

/// The first label of a service's selector.
fn first_selected(object: Option<&Object>) -> Option<(&str, &str)> {
    let Some(Object::Service(service)) = object else { return None };
    service.spec.selector.first_key_value().map(|(k, v)| (k.as_str(), v.as_str()))
}

#[cfg(test)]
mod tests;
