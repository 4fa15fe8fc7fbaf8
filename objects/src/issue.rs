//! A bad object, told to people: compilers never fail, they leave it out (or fail closed) and say so.
use std::fmt;

use crate::Key;

/// What is wrong with one object: becomes an Event on it, a metric and a line in `weft status`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Issue {
    /// Kind of the object.
    pub kind: &'static str,
    /// Which object.
    pub key: Key,
    /// One word in CamelCase, as an Event's reason.
    pub reason: &'static str,
    /// What is wrong, with the field's path, and what is done about it.
    pub message: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind, self.key, self.reason, self.message)
    }
}
