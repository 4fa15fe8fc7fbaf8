//! Labels and annotations as one sorted slice: a third of a map's memory, and searched as fast.
use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

/// Key and value pairs, sorted by key, no key twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize)]
#[serde(from = "BTreeMap<Box<str>, Box<str>>")]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// All pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Box<str>, Box<str>>> for Labels {
    fn from(map: BTreeMap<Box<str>, Box<str>>) -> Labels {
        Labels(map.into_iter().collect())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Labels {
        pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect::<BTreeMap<Box<str>, Box<str>>>().into()
    }
}

/// `a=1,b=2`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_found() {
        let labels: Labels = [("tier", "web"), ("app", "shop")].into_iter().collect();
        assert_eq!(labels.to_string(), "app=shop,tier=web");
        assert_eq!(labels.get("tier"), Some("web"));
        assert_eq!(labels.get("none"), None);
    }
}
