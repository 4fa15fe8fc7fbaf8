//! Objects of one kind, ordered by namespace and name.

use std::{collections::BTreeMap, sync::Arc};

use crate::controller::Key;

/// Objects by key.
#[derive(Debug)]
pub(crate) struct Table<T>(BTreeMap<Key, Arc<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Table<T> {
    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.0.get(key)
    }

    pub(crate) fn named(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.0.get(&Key::new(namespace, name))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    pub(crate) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        self.0.range(Key::new(namespace, "")..).take_while(move |(key, _)| &*key.namespace == namespace).map(|(_, v)| v)
    }

    pub(crate) fn insert(&mut self, key: Key, object: Arc<T>) -> Option<Arc<T>> {
        self.0.insert(key, object)
    }

    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<T>> {
        self.0.remove(key)
    }
}
