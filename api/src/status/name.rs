//! Names of resources and kinds with their group, as messages print them.

use std::fmt;

/// Group and plural name of a resource; prints as `deployments.apps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

/// Group and kind; prints as `Deployment.apps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl GroupResource {
    /// From its two parts.
    pub fn new(group: &str, resource: &str) -> Self {
        GroupResource { group: group.to_owned(), resource: resource.to_owned() }
    }
}

impl GroupKind {
    /// From its two parts.
    pub fn new(group: &str, kind: &str) -> Self {
        GroupKind { group: group.to_owned(), kind: kind.to_owned() }
    }
}

macro_rules! from_names {
    ($name:ident, $method:ident) => {
        impl From<&crate::schema::Row> for $name {
            fn from(row: &crate::schema::Row) -> Self {
                row.$method()
            }
        }
        impl From<(&str, &str)> for $name {
            fn from((group, name): (&str, &str)) -> Self {
                $name::new(group, name)
            }
        }
        /// `deployments.apps`, `pods`.
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                let (name, group) = text.split_once('.').unwrap_or((text, ""));
                $name::new(group, name)
            }
        }
    };
}
from_names!(GroupResource, group_resource);
from_names!(GroupKind, group_kind);

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_grouped(f, &self.resource, &self.group)
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_grouped(f, &self.kind, &self.group)
    }
}

fn display_grouped(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    if group.is_empty() { f.write_str(name) } else { write!(f, "{name}.{group}") }
}
