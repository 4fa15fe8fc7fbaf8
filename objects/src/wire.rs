//! How objects lie in JSON, where several kinds share it: metadata, and fields that may be `null`.
//!
//! Go clients send `null` for an empty slice, so every list and map goes through [`or_default`].
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::{Key, Labels};

/// `metadata`, as far as we read it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) namespace: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) uid: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) resource_version: Box<str>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) labels: BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) annotations: BTreeMap<Box<str>, Box<str>>,
    pub(crate) deletion_timestamp: Option<Box<str>>,
}

impl Metadata {
    pub(crate) fn take_key(&mut self) -> Key {
        Key { namespace: std::mem::take(&mut self.namespace), name: std::mem::take(&mut self.name) }
    }

    pub(crate) fn take_labels(&mut self) -> Labels {
        Labels::from(std::mem::take(&mut self.labels))
    }

    /// The annotations that `wanted` names; the others (often kilobytes of applied configuration) are forgotten.
    pub(crate) fn take_annotations(&mut self, wanted: impl Fn(&str) -> bool) -> Labels {
        let mut annotations = std::mem::take(&mut self.annotations);
        annotations.retain(|key, _| wanted(key));
        Labels::from(annotations)
    }
}

/// Absent (with `#[serde(default)]`) and `null` alike give the default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The addresses among `texts`; what is none is left out.
pub(crate) fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Box<[std::net::IpAddr]> {
    texts.filter_map(|text| text.parse().ok()).collect()
}
