//! A number or a name: ports of policies and services.
use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// `intstr.IntOrString` of the Kubernetes API. A string of digits is a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IntOrString {
    /// A number, not checked.
    Int(i32),
    /// A name.
    Name(Box<str>),
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = IntOrString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a string")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<IntOrString, E> {
        i32::try_from(value).map(IntOrString::Int).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<IntOrString, E> {
        i32::try_from(value).map(IntOrString::Int).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<IntOrString, E> {
        Ok(IntOrString::Name(value.into()))
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrString::Int(number) => number.fmt(f),
            IntOrString::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::IntOrString::{self, Int, Name};

    #[track_caller]
    fn check(json: &str, expected: &Option<IntOrString>) {
        assert_eq!(&serde_json::from_str(json).ok(), expected);
    }

    #[test]
    fn from_json() {
        check("80", &Some(Int(80)));
        check("-1", &Some(Int(-1)));
        check("\"http\"", &Some(Name("http".into())));
        check("\"80\"", &Some(Name("80".into())));
        check("99999999999", &None);
        check("true", &None);
    }
}
