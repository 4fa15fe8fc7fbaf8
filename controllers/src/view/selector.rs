//! Label selectors of objects, and node selectors.

use super::{Map, view};

view! {
    /// metav1.LabelSelector. Empty matches everything; an absent one, by callers' convention, nothing.
    LabelSelector {
        #[serde(skip_serializing_if = "Map::is_empty")]
        match_labels: Map,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        match_expressions: Vec<Expression>,
    }
    /// A requirement on one label (also corev1.NodeSelectorRequirement).
    Expression {
        key: String,
        operator: String,
        values: Vec<String>,
    }
    /// corev1.NodeSelectorTerm.
    NodeSelectorTerm {
        match_expressions: Vec<Expression>,
        match_fields: Vec<Expression>,
    }
    /// corev1.NodeSelector: any of its terms.
    NodeSelector {
        node_selector_terms: Vec<NodeSelectorTerm>,
    }
}

impl LabelSelector {
    pub(crate) fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    pub(crate) fn matches(&self, labels: &Map) -> bool {
        contains_all(labels, &self.match_labels)
            && self.match_expressions.iter().all(|e| e.matches(labels.get(&e.key).map(String::as_str)))
    }
}

impl Expression {
    /// Whether a label's value (or its absence) meets the requirement. An unknown operator matches nothing.
    pub(crate) fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => self.compare(value, |have, want| have > want),
            "Lt" => self.compare(value, |have, want| have < want),
            _ => false,
        }
    }

    fn compare(&self, value: Option<&str>, test: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (value.and_then(number), self.values.first().and_then(|v| number(v))) {
            (Some(have), Some(want)) => test(have, want),
            _ => false,
        }
    }
}

impl NodeSelectorTerm {
    /// An empty term matches no node.
    pub(crate) fn matches(&self, name: &str, labels: &Map) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        self.match_expressions.iter().all(|e| e.matches(labels.get(&e.key).map(String::as_str)))
            && self.match_fields.iter().all(|e| e.matches((e.key == "metadata.name").then_some(name)))
    }
}

impl NodeSelector {
    pub(crate) fn matches(&self, name: &str, labels: &Map) -> bool {
        self.node_selector_terms.iter().any(|term| term.matches(name, labels))
    }
}

/// Whether `labels` has all of `wanted`.
pub(crate) fn contains_all(labels: &Map, wanted: &Map) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: &str, expected: bool) {
        let selector: LabelSelector = serde_json::from_str(selector).unwrap();
        let labels: Map = serde_json::from_str(labels).unwrap();
        assert_eq!(selector.matches(&labels), expected);
    }

    #[test]
    fn selectors() {
        check("{}", r#"{"a":"b"}"#, true);
        check(r#"{"matchLabels":{"a":"b"}}"#, r#"{"a":"b","c":"d"}"#, true);
        check(r#"{"matchLabels":{"a":"b"}}"#, r#"{"a":"c"}"#, false);
        check(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["x","y"]}]}"#, r#"{"a":"y"}"#, true);
        check(r#"{"matchExpressions":[{"key":"a","operator":"NotIn","values":["x"]}]}"#, "{}", true);
        check(r#"{"matchExpressions":[{"key":"a","operator":"Exists"}]}"#, "{}", false);
        check(r#"{"matchExpressions":[{"key":"a","operator":"DoesNotExist"}]}"#, "{}", true);
        check(r#"{"matchExpressions":[{"key":"a","operator":"Gt","values":["3"]}]}"#, r#"{"a":"4"}"#, true);
    }

    #[test]
    fn node_terms() {
        let selector: NodeSelector = serde_json::from_str(
            r#"{"nodeSelectorTerms":[{},{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}]}"#,
        )
        .unwrap();
        assert!(selector.matches("n1", &Map::new()));
        assert!(!selector.matches("n2", &Map::new()), "an empty term matches nothing");
    }
}
