//! Namespaces: their labels, which namespace selectors match.
use serde::Deserialize;

use crate::{Key, Labels, key::object, wire};

/// `v1 Namespace`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct Namespace {
    /// Name; the key's namespace is empty.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// Labels.
    pub labels: Labels,
}
object!(Namespace, "", "v1", "namespaces", "Namespace");

#[derive(Deserialize)]
struct Wire {
    metadata: wire::Metadata,
}

impl From<Wire> for Namespace {
    fn from(mut wire: Wire) -> Namespace {
        Namespace {
            key: wire.metadata.take_key(),
            labels: wire.metadata.take_labels(),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
        }
    }
}
