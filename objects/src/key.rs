//! What names an object: [`Key`], and the [`Object`] trait that a watcher is generic over.
use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;

/// Namespace and name. The namespace is empty for kinds that have none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// Namespace, or empty.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
}

impl Key {
    /// Key of an object in a namespace.
    pub fn new(namespace: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// Key of an object of a kind without namespaces.
    pub fn cluster(name: impl Into<Box<str>>) -> Key {
        Key::new("", name)
    }
}

/// `namespace/name`, or the name alone.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All objects of a kind, in key order: no result depends on the order in which a watch told them.
pub type Store<T> = BTreeMap<Key, Arc<T>>;

/// Where an API server serves a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiResource {
    /// Empty for the core group.
    pub group: &'static str,
    /// Version that the projection was written for.
    pub version: &'static str,
    /// As in the path.
    pub plural: &'static str,
    /// As in the object.
    pub kind: &'static str,
}

impl ApiResource {
    /// Path of the list of the whole cluster: `/api/v1/pods`, `/apis/networking.k8s.io/v1/networkpolicies`.
    pub fn path(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}/{}", self.version, self.plural)
        } else {
            format!("/apis/{}/{}/{}", self.group, self.version, self.plural)
        }
    }
}

/// A projected kind.
pub trait Object: DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// Where it is served.
    const API: ApiResource;

    /// Its key.
    fn key(&self) -> &Key;
    /// `metadata.uid`.
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion`: opaque, to resume a watch.
    fn version(&self) -> &str;
}

macro_rules! object {
    ($type:ty, $group:literal, $version:literal, $plural:literal, $kind:literal) => {
        impl crate::Object for $type {
            const API: crate::ApiResource =
                crate::ApiResource { group: $group, version: $version, plural: $plural, kind: $kind };

            fn key(&self) -> &crate::Key {
                &self.key
            }
            fn uid(&self) -> &str {
                &self.uid
            }
            fn version(&self) -> &str {
                &self.version
            }
        }
    };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_order() {
        assert_eq!(Key::new("kube-system", "dns").to_string(), "kube-system/dns");
        assert_eq!(Key::cluster("node-1").to_string(), "node-1");
        assert!(Key::new("a", "z") < Key::new("b", "a"));
    }

    #[test]
    fn paths() {
        assert_eq!(crate::Pod::API.path(), "/api/v1/pods");
        assert_eq!(crate::NetworkPolicy::API.path(), "/apis/networking.k8s.io/v1/networkpolicies");
    }
}
