//! Label selectors: what policies and services name pods and namespaces by.
use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::Deserialize;

use crate::{Labels, wire::or_default};

/// `metav1.LabelSelector`. Empty matches everything; that an absent one differs is its owner's affair.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Every pair must be there.
    #[serde(deserialize_with = "or_default")]
    pub match_labels: BTreeMap<Box<str>, Box<str>>,
    /// Every requirement must hold.
    #[serde(deserialize_with = "or_default")]
    pub match_expressions: Vec<Requirement>,
}

/// One expression of a selector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
pub struct Requirement {
    /// The label.
    pub key: Box<str>,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with; empty for the operators that take none.
    #[serde(default, deserialize_with = "or_default")]
    pub values: Vec<Box<str>>,
}

/// How a label is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
pub enum Operator {
    /// There, with one of the values.
    In,
    /// Absent, or with none of the values.
    NotIn,
    /// There.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Not an operator that we know: never holds, see [`LabelSelector::fault`].
    #[serde(other)]
    Unknown,
}

impl LabelSelector {
    /// True if the labels satisfy every part.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// True if it matches everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Why validation would refuse it, if it would.
    pub fn fault(&self) -> Option<String> {
        self.match_expressions.iter().enumerate().find_map(|(index, requirement)| {
            let what = match (requirement.operator, requirement.values.is_empty()) {
                (Operator::Unknown, _) => "operator: not a valid selector operator",
                (Operator::In | Operator::NotIn, true) => "values: required for operators In and NotIn",
                (Operator::Exists | Operator::DoesNotExist, false) => "values: forbidden for Exists and DoesNotExist",
                _ => return None,
            };
            Some(format!("matchExpressions[{index}].{what}"))
        })
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|value| self.values.iter().any(|v| **v == *value));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Unknown => false,
        }
    }
}

/// As kubectl prints selectors: `app=web,tier in (a,b),!old`; nothing if it matches everything. Texts that validation
/// would refuse are quoted, so that different selectors never print alike: ids are hashes of this text.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.match_labels.iter().map(|(key, value)| format!("{}={}", quoted(key), quoted(value)));
        let expressions = self.match_expressions.iter().map(Requirement::to_string);
        f.write_str(&labels.chain(expressions).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = quoted(&self.key);
        let values = self.values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Unknown => write!(f, "{key} unknown ({values})"),
        }
    }
}

fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if text.bytes().all(plain) { Cow::Borrowed(text) } else { Cow::Owned(format!("{text:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &str, expected: bool) {
        let selector: LabelSelector = serde_json::from_str(selector).unwrap();
        let labels: Labels = serde_json::from_str(labels).unwrap();
        assert_eq!(selector.matches(&labels), expected, "{selector} on {labels}");
    }

    #[test]
    fn matching() {
        check("{}", "{}", true);
        check(r#"{"matchLabels":null}"#, r#"{"a":"1"}"#, true);
        check(r#"{"matchLabels":{"a":"1"}}"#, r#"{"a":"1","b":"2"}"#, true);
        check(r#"{"matchLabels":{"a":"1"}}"#, r#"{"a":"2"}"#, false);
        check(r#"{"matchLabels":{"a":"1","b":"2"}}"#, r#"{"a":"1"}"#, false);
        let expression = |rest: &str| format!(r#"{{"matchExpressions":[{{"key":"a",{rest}}}]}}"#);
        check(&expression(r#""operator":"In","values":["1","2"]"#), r#"{"a":"2"}"#, true);
        check(&expression(r#""operator":"In","values":["1","2"]"#), "{}", false);
        check(&expression(r#""operator":"NotIn","values":["1"]"#), r#"{"a":"1"}"#, false);
        check(&expression(r#""operator":"NotIn","values":["1"]"#), "{}", true);
        check(&expression(r#""operator":"Exists""#), r#"{"a":""}"#, true);
        check(&expression(r#""operator":"Exists""#), "{}", false);
        check(&expression(r#""operator":"DoesNotExist""#), "{}", true);
        check(&expression(r#""operator":"Like","values":["1"]"#), r#"{"a":"1"}"#, false);
    }

    #[test]
    fn faults() {
        let fault = |json: &str| serde_json::from_str::<LabelSelector>(json).unwrap().fault();
        assert_eq!(fault(r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#), None);
        assert!(fault(r#"{"matchExpressions":[{"key":"a","operator":"In"}]}"#).unwrap().contains("[0].values"));
        assert!(fault(r#"{"matchExpressions":[{"key":"a","operator":"Gt"}]}"#).unwrap().contains("[0].operator"));
    }
}
