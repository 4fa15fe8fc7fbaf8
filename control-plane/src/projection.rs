//! The few fields of an object that selectors look at, read without building the rest.
//!
//! A parsed pod takes ten times its bytes; this skips over what no selector can name. Pure. It does not know which
//! field belongs to which kind: `api::select` does.
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

enum Keep {
    All,
    Members(&'static [(&'static str, Keep)]),
}

const SELECTABLE: Keep = Keep::Members(&[
    ("apiVersion", Keep::All),
    ("kind", Keep::All),
    ("metadata", Keep::Members(&[("name", Keep::All), ("namespace", Keep::All), ("labels", Keep::All)])),
    (
        "spec",
        Keep::Members(&[
            ("nodeName", Keep::All),
            ("restartPolicy", Keep::All),
            ("schedulerName", Keep::All),
            ("serviceAccountName", Keep::All),
            ("hostNetwork", Keep::All),
            ("unschedulable", Keep::All),
            ("clusterIP", Keep::All),
            ("type", Keep::All),
            ("signerName", Keep::All),
            ("driver", Keep::All),
        ]),
    ),
    (
        "status",
        Keep::Members(&[
            ("phase", Keep::All),
            ("podIP", Keep::All),
            ("podIPs", Keep::All),
            ("nominatedNodeName", Keep::All),
            ("replicas", Keep::All),
            ("succeeded", Keep::All),
        ]),
    ),
    ("involvedObject", Keep::All),
    ("regarding", Keep::All),
    ("reason", Keep::All),
    ("reportingComponent", Keep::All),
    ("reportingController", Keep::All),
    ("source", Keep::All),
    ("deprecatedSource", Keep::All),
    ("type", Keep::All),
]);

/// What selectors may look at in `object`, which is JSON; null when it is not an object.
pub(crate) fn selectable(object: &[u8]) -> Value {
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    Projection(&SELECTABLE).deserialize(&mut deserializer).unwrap_or(Value::Null)
}

struct Projection(&'static Keep);

impl<'de> DeserializeSeed<'de> for Projection {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.0 {
            Keep::All => serde::Deserialize::deserialize(deserializer),
            // Any, since an optional object may be null.
            Keep::Members(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Projection {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Keep::Members(kept) = self.0 else { unreachable!("only objects are visited") };
        let mut map = Map::new();
        while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            match kept.iter().find(|(known, _)| *known == name) {
                Some((known, keep)) => {
                    map.insert((*known).to_owned(), members.next_value_seed(Projection(keep))?);
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::selectable;

    #[track_caller]
    fn check(object: &Value, expected: &Value) {
        assert_eq!(&selectable(object.to_string().as_bytes()), expected);
    }

    #[test]
    fn only_what_selectors_name_is_kept() {
        check(
            &json!({"metadata": {"name": "a", "labels": {"x": "y"}, "uid": "u"}, "spec": {"nodeName": "n", "containers": [{}]}, "status": {"phase": "Running"}}),
            &json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}),
        );
        check(&json!({"data": {"metadata": 1}}), &json!({}));
        check(&json!([]), &Value::Null);
    }
}
