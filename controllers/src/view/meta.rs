//! ObjectMeta, conditions and other pieces that all kinds share.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::view;
use crate::{action::Involved, controller::Key};

/// Labels, annotations, resource lists.
pub(crate) type Map = BTreeMap<String, String>;

view! {
    /// metav1.ObjectMeta.
    Meta {
        name: String,
        namespace: String,
        uid: String,
        resource_version: String,
        generation: i64,
        creation_timestamp: Option<Timestamp>,
        deletion_timestamp: Option<Timestamp>,
        labels: Map,
        annotations: Map,
        owner_references: Vec<OwnerReference>,
        finalizers: Vec<String>,
    }
    OwnerReference {
        api_version: String,
        kind: String,
        name: String,
        uid: String,
        controller: bool,
        block_owner_deletion: bool,
    }
    /// A condition of any kind. Fields that a kind's conditions lack stay empty and are not written.
    Condition {
        #[serde(rename = "type")]
        type_: String,
        status: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_heartbeat_time: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_update_time: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_transition_time: Option<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        reason: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        observed_generation: Option<i64>,
    }
    /// corev1.ObjectReference as endpoints carry it.
    Reference {
        #[serde(skip_serializing_if = "String::is_empty")]
        kind: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        namespace: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        uid: String,
    }
    /// An object of which only the metadata is kept.
    Bare {
        #[serde(rename = "metadata")]
        meta: Meta,
    }
}

impl Meta {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.namespace.as_str(), self.name.as_str())
    }

    /// The owner that controls it.
    pub(crate) fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// The controlling owner, if it is of this kind.
    pub(crate) fn controlled_by_kind(&self, kind: &str) -> Option<&OwnerReference> {
        self.controller().filter(|owner| owner.kind == kind)
    }

    pub(crate) fn deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }

    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    pub(crate) fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }

    /// Creation time for ordering; an object without one sorts first.
    pub(crate) fn created(&self) -> Timestamp {
        self.creation_timestamp.unwrap_or(Timestamp::MIN)
    }

    /// As the subject of an event.
    pub(crate) fn involved(&self, api_version: &'static str, kind: &'static str) -> Involved {
        Involved {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
        }
    }
}

/// The condition of a type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of a type says `True`.
pub(crate) fn condition_is_true(conditions: &[Condition], type_: &str) -> bool {
    condition(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// RFC 3339 in whole seconds, as metav1.Time is written.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A piece of an object kept as its JSON text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw(Arc<RawValue>);

impl Raw {
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.0.get()).unwrap_or_default()
    }
}

impl Default for Raw {
    fn default() -> Self {
        Self(RawValue::from_string("null".to_owned()).expect("null is JSON").into())
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// An integer or a string: ports by number or name, counts or percentages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum IntOrString {
    Int(i64),
    String(String),
}

impl IntOrString {
    /// A count, or a percentage of `total`.
    pub(crate) fn scaled(&self, total: i64, round_up: bool) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::String(text) => {
                let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
                let product = percent * total;
                if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) }
            }
        }
    }
}
