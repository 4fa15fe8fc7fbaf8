//! Indexes over all objects: by uid, by owner, by node, by service, by selected label.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Table;
use crate::{
    controller::Key,
    resource,
    view::{Bare, Meta, Object, OwnerReference, Pod},
};

/// The label of a slice that names its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Kinds whose objects controllers adopt when nobody controls them.
const ADOPTABLE: [&str; 3] = [resource::PODS, resource::REPLICA_SETS, resource::CONTROLLER_REVISIONS];

/// What is kept of every object, whatever its kind.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) resource: Arc<str>,
    pub(crate) key: Key,
    pub(crate) uid: Arc<str>,
    pub(crate) revision: u64,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) deleting: bool,
}

impl Item {
    pub(super) fn new(resource: Arc<str>, meta: &Meta, revision: u64) -> Self {
        let own = meta.revision();
        Self {
            resource,
            key: meta.key(),
            uid: meta.uid.as_str().into(),
            revision: if own == 0 { revision } else { own },
            owners: meta.owner_references.clone(),
            finalizers: meta.finalizers.clone(),
            deleting: meta.deleting(),
        }
    }

    /// For kinds that have no typed table: the metadata as an object.
    pub(super) fn as_object(&self) -> Object {
        let mut bare = Bare::default();
        bare.meta.name = self.key.name.to_string();
        bare.meta.namespace = self.key.namespace.to_string();
        bare.meta.uid = self.uid.to_string();
        bare.meta.owner_references.clone_from(&self.owners);
        bare.meta.finalizers.clone_from(&self.finalizers);
        Object::Other(Arc::new(bare))
    }

    fn controlled(&self) -> bool {
        self.owners.iter().any(|owner| owner.controller)
    }
}

/// All indexes.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    names: BTreeSet<Arc<str>>,
    items: HashMap<Arc<str>, BTreeMap<Key, Item>>,
    uids: HashMap<Arc<str>, (Arc<str>, Key)>,
    dependents: HashMap<String, BTreeSet<(Arc<str>, Key)>>,
    orphans: HashMap<Arc<str>, BTreeSet<Key>>,
    pub(crate) pods_by_node: HashMap<String, BTreeSet<Key>>,
    /// Pods without a node that are not terminated.
    pub(crate) pending: BTreeSet<Key>,
    /// Pods on nodes that have a say in where others go: (anti-)affinity terms of their own.
    pub(crate) with_affinity: BTreeSet<Key>,
    /// Pods that succeeded or failed.
    pub(crate) terminated: BTreeSet<Key>,
    /// Slices by the service that they belong to.
    pub(crate) slices_by_service: HashMap<Key, BTreeSet<Key>>,
    selected: HashMap<Pair, Selected>,
}

/// One label in one namespace.
type Pair = (Arc<str>, String, String);

/// Services whose selector's first label this is, and the pods that carry it.
#[derive(Debug, Default)]
struct Selected {
    services: BTreeSet<Key>,
    pods: BTreeSet<Key>,
}

impl Indexes {
    /// One shared copy of a resource's name.
    pub(super) fn intern(&mut self, resource: &str) -> Arc<str> {
        if let Some(name) = self.names.get(resource) {
            return Arc::clone(name);
        }
        let name: Arc<str> = resource.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    pub(crate) fn item(&self, resource: &str, key: &Key) -> Option<&Item> {
        self.items.get(resource)?.get(key)
    }

    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Item> {
        let (resource, key) = self.uids.get(uid)?;
        self.item(resource, key)
    }

    pub(crate) fn keys(&self, resource: &str) -> impl Iterator<Item = &Key> {
        self.items.get(resource).into_iter().flat_map(BTreeMap::keys)
    }

    /// Every object of a namespace, kind by kind.
    pub(crate) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Item> {
        self.items.values().flat_map(move |items| {
            items
                .range(Key::new(namespace, "")..)
                .take_while(move |(key, _)| &*key.namespace == namespace)
                .map(|(_, v)| v)
        })
    }

    /// Every object that names this uid as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|(resource, key)| self.item(resource, key))
    }

    /// Keys of the objects of one resource that this uid *controls*.
    pub(crate) fn dependents_of<'a>(&'a self, uid: &'a str, resource: &'static str) -> impl Iterator<Item = &'a Key> {
        self.dependents(uid)
            .filter(move |item| &*item.resource == resource)
            .filter(move |item| item.owners.iter().any(|owner| owner.controller && owner.uid == uid))
            .map(|item| &item.key)
    }

    pub(crate) fn orphans<'a>(&'a self, resource: &str, namespace: &'a str) -> impl Iterator<Item = &'a Key> {
        let all = self.orphans.get(resource).into_iter();
        all.flat_map(move |keys| {
            keys.range(Key::new(namespace, "")..).take_while(move |key| &*key.namespace == namespace)
        })
    }

    /// Candidates for a service's selector: the pods that carry its first label.
    pub(super) fn selected_pods<'a>(
        &'a self,
        namespace: &str,
        selector: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Key> {
        let pair = selector.first_key_value().map(|(k, v)| (Arc::from(namespace), k.clone(), v.clone()));
        pair.and_then(|pair| self.selected.get(&pair)).into_iter().flat_map(|selected| &selected.pods)
    }

    /// Services that may select a pod: those whose selector's first label it carries.
    pub(crate) fn selecting_services<'a>(&'a self, pod: &Pod) -> impl Iterator<Item = &'a Key> {
        let namespace: Arc<str> = pod.meta.namespace.as_str().into();
        let pairs: Vec<Pair> =
            pod.meta.labels.iter().map(|(k, v)| (Arc::clone(&namespace), k.clone(), v.clone())).collect();
        pairs.into_iter().filter_map(|pair| self.selected.get(&pair)).flat_map(|selected| &selected.services)
    }

    /// Moves the indexes from the old object to the new one.
    pub(super) fn replace(&mut self, item: &Item, old: Option<&Object>, new: Option<&Object>) {
        if let Some(known) = self.items.get_mut(&item.resource).and_then(|items| items.remove(&item.key)) {
            self.forget(&known);
        }
        if let Some(old) = old {
            self.unlink(old, &item.key);
        }
        let Some(new) = new else { return };
        for owner in &item.owners {
            let entry = (Arc::clone(&item.resource), item.key.clone());
            self.dependents.entry(owner.uid.clone()).or_default().insert(entry);
        }
        if ADOPTABLE.contains(&&*item.resource) && !item.controlled() {
            self.orphans.entry(Arc::clone(&item.resource)).or_default().insert(item.key.clone());
        }
        self.uids.insert(Arc::clone(&item.uid), (Arc::clone(&item.resource), item.key.clone()));
        self.items.entry(Arc::clone(&item.resource)).or_default().insert(item.key.clone(), item.clone());
        self.link(new, &item.key);
    }

    fn forget(&mut self, item: &Item) {
        for owner in &item.owners {
            if let Some(set) = self.dependents.get_mut(&owner.uid) {
                set.remove(&(Arc::clone(&item.resource), item.key.clone()));
                if set.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if let Some(set) = self.orphans.get_mut(&item.resource) {
            set.remove(&item.key);
        }
        self.uids.remove(&item.uid);
    }

    fn link(&mut self, object: &Object, key: &Key) {
        match object {
            Object::Pod(pod) => {
                if !pod.spec.node_name.is_empty() {
                    self.pods_by_node.entry(pod.spec.node_name.clone()).or_default().insert(key.clone());
                } else if !pod.terminated() {
                    self.pending.insert(key.clone());
                }
                if !pod.spec.node_name.is_empty() && !pod.terminated() && pod.spec.affinity.between_pods() {
                    self.with_affinity.insert(key.clone());
                }
                if pod.terminated() {
                    self.terminated.insert(key.clone());
                }
                for pair in pairs(pod, key) {
                    if let Some(selected) = self.selected.get_mut(&pair) {
                        selected.pods.insert(key.clone());
                    }
                }
            }
            Object::Slice(slice) => {
                if let Some(service) = slice.meta.label(SERVICE_LABEL) {
                    let service = Key::new(Arc::clone(&key.namespace), service);
                    self.slices_by_service.entry(service).or_default().insert(key.clone());
                }
            }
            _ => {}
        }
    }

    fn unlink(&mut self, object: &Object, key: &Key) {
        match object {
            Object::Pod(pod) => {
                self.pending.remove(key);
                self.terminated.remove(key);
                self.with_affinity.remove(key);
                remove_from(&mut self.pods_by_node, &pod.spec.node_name, key);
                for pair in pairs(pod, key) {
                    if let Some(selected) = self.selected.get_mut(&pair) {
                        selected.pods.remove(key);
                    }
                }
            }
            Object::Slice(slice) => {
                if let Some(service) = slice.meta.label(SERVICE_LABEL) {
                    let service = Key::new(Arc::clone(&key.namespace), service);
                    remove_from(&mut self.slices_by_service, &service, key);
                }
            }
            _ => {}
        }
    }

    /// A service's selector begins or ends to count. The first service on a label looks through its namespace's pods once.
    pub(super) fn select(
        &mut self,
        key: &Key,
        old: Option<(&str, &str)>,
        new: Option<(&str, &str)>,
        pods: &Table<Pod>,
    ) {
        if old == new {
            return;
        }
        let pair = |(k, v): (&str, &str)| (Arc::clone(&key.namespace), k.to_owned(), v.to_owned());
        if let Some(old) = old.map(pair)
            && let Some(selected) = self.selected.get_mut(&old)
        {
            selected.services.remove(key);
            if selected.services.is_empty() {
                self.selected.remove(&old);
            }
        }
        if let Some((label, value)) = new {
            let selected = self.selected.entry(pair((label, value))).or_insert_with(|| Selected {
                services: BTreeSet::new(),
                pods: pods
                    .in_namespace(&key.namespace)
                    .filter(|pod| pod.meta.label(label) == Some(value))
                    .map(|pod| pod.meta.key())
                    .collect(),
            });
            selected.services.insert(key.clone());
        }
    }
}

fn pairs<'a>(pod: &'a Pod, key: &'a Key) -> impl Iterator<Item = Pair> + 'a {
    pod.meta.labels.iter().map(|(k, v)| (Arc::clone(&key.namespace), k.clone(), v.clone()))
}

fn remove_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<Key>>, name: &K, key: &Key) {
    if let Some(set) = map.get_mut(name) {
        set.remove(key);
        if set.is_empty() {
            map.remove(name);
        }
    }
}
