//! Label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k`, and the object form `matchLabels`/`matchExpressions`.

use serde_json::Value;

use crate::{Object, path, status::Status};

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the operators' own names")]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Comparison.
    pub operator: Operator,
    /// Values; none for existence.
    pub values: Vec<String>,
}

/// All requirements must hold; none at all means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// The requirements.
    pub requirements: Vec<Requirement>,
    /// Matches no object: the object form of an absent selector.
    nothing: bool,
}

impl LabelSelector {
    /// Parses the query form.
    pub fn parse(text: &str) -> Result<LabelSelector, Status> {
        let mut parser = Parser { text, at: 0 };
        let requirements =
            parser.selector().map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        for r in &requirements {
            check_key(&r.key)?;
            r.values.iter().try_for_each(|v| check_value(&r.key, v))?;
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// Reads a `metav1.LabelSelector`. Null matches nothing, an empty object matches everything.
    pub fn from_object(value: &Value) -> Result<LabelSelector, Status> {
        if value.is_null() {
            return Ok(LabelSelector { requirements: Vec::new(), nothing: true });
        }
        let mut requirements: Vec<Requirement> = path::strings(value, "matchLabels")
            .map(|(k, v)| Requirement { key: k.to_owned(), operator: Operator::In, values: vec![v.to_owned()] })
            .collect();
        for expression in path::list(value, "matchExpressions") {
            let name = path::str(expression, "operator");
            let operator = match name {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return Err(Status::bad_request(format!("\"{name}\" is not a valid label selector operator"))),
            };
            let values =
                path::list(expression, "values").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
            requirements.push(Requirement { key: path::str(expression, "key").to_owned(), operator, values });
        }
        Ok(LabelSelector { requirements, nothing: false })
    }

    /// A selector of equalities: what a Service or a ReplicationController has.
    pub fn from_map(map: &Object) -> LabelSelector {
        let requirement = |(k, v): (&String, &Value)| Requirement {
            key: k.clone(),
            operator: Operator::In,
            values: vec![v.as_str().unwrap_or("").to_owned()],
        };
        LabelSelector { requirements: map.iter().map(requirement).collect(), nothing: false }
    }

    /// Whether the labels meet all requirements.
    pub fn matches(&self, labels: &Object) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels.get(&r.key).and_then(Value::as_str)))
    }

    /// Whether the object's labels meet all requirements.
    pub fn matches_object(&self, object: &Value) -> bool {
        match path::map(object, "metadata.labels") {
            Some(labels) => self.matches(labels),
            None => self.matches(&Object::new()),
        }
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let among = |v: &str| self.values.iter().any(|w| w == v);
        let number = |v: &str| v.parse::<i64>().ok().zip(self.values.first().and_then(|w| w.parse::<i64>().ok()));
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(number).is_some_and(|(a, b)| a > b),
            Operator::LessThan => value.and_then(number).is_some_and(|(a, b)| a < b),
        }
    }
}

fn check_key(key: &str) -> Result<(), Status> {
    let errors = crate::registry::names::qualified_name(key);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "unable to parse requirement: key: Invalid value: \"{key}\": {}",
        errors.join("; ")
    )))
}

fn check_value(key: &str, value: &str) -> Result<(), Status> {
    let errors = crate::registry::names::label_value(value);
    if errors.is_empty() {
        return Ok(());
    }
    let text =
        format!("unable to parse requirement: values[0][{key}]: Invalid value: \"{value}\": {}", errors.join("; "));
    Err(Status::bad_request(text))
}

/// A recursive-descent reader of the query form.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        self.spaces();
        if self.rest().is_empty() {
            return Ok(out);
        }
        loop {
            out.push(self.requirement()?);
            self.spaces();
            if self.rest().is_empty() {
                return Ok(out);
            }
            if !self.eat(",") {
                let found = self.word();
                return Err(format!("found '{found}', expected: ',' or 'end of string'"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        self.spaces();
        let absent = self.eat("!");
        self.spaces();
        let key = self.word().to_owned();
        if key.is_empty() {
            return Err(format!("found '{}', expected: !, identifier, or 'end of string'", self.symbol()));
        }
        if absent {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        self.spaces();
        let compare = [
            ("==", Operator::In),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ];
        for (token, operator) in compare {
            if self.eat(token) {
                self.spaces();
                let value = self.word().to_owned();
                return Ok(Requirement { key, operator, values: vec![value] });
            }
        }
        if self.rest().is_empty() || self.rest().starts_with(',') {
            return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                let found = if other.is_empty() { self.symbol() } else { other };
                return Err(format!("found '{found}', expected: in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok(Requirement { key, operator, values: self.values()? })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        self.spaces();
        if !self.eat("(") {
            return Err(format!("found '{}' expected: '('", self.symbol()));
        }
        let mut values = Vec::new();
        loop {
            self.spaces();
            values.push(self.word().to_owned());
            self.spaces();
            if self.eat(")") {
                values.sort();
                values.dedup();
                return Ok(values);
            }
            if !self.eat(",") {
                return Err(format!("found '{}', expected: ',' or ')'", self.symbol()));
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn symbol(&self) -> &'a str {
        let rest = self.rest();
        rest.chars().next().map_or("", |c| &rest[..c.len_utf8()])
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || "=!(),<>".contains(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: &str, labels: Value, expected: bool) {
        let got = LabelSelector::parse(selector).unwrap().matches(labels.as_object().unwrap());
        assert_eq!(got, expected, "{selector} on {labels}");
    }

    #[test]
    fn every_operator() {
        check("", json!({}), true);
        check("a=b", json!({"a": "b"}), true);
        check("a == b", json!({"a": "c"}), false);
        check("a!=b", json!({}), true);
        check("a!=b", json!({"a": "b"}), false);
        check("a in (b, c),d", json!({"a": "c", "d": ""}), true);
        check("a notin (b,c)", json!({"a": "d"}), true);
        check("a notin (b,c)", json!({"a": "b"}), false);
        check("a", json!({"a": ""}), true);
        check("!a", json!({"a": ""}), false);
        check("app.kubernetes.io/name=x,!b", json!({"app.kubernetes.io/name": "x"}), true);
        check("a=", json!({"a": ""}), true);
        check("n>3", json!({"n": "4"}), true);
    }

    #[test]
    fn bad_selectors_are_refused() {
        for text in ["a b", "a in b", "a in (b", "=b", "a,,b", "a=b=c", "a/b/c=d", "a=?"] {
            assert_eq!(LabelSelector::parse(text).map_err(|e| e.code), Err(400), "{text}");
        }
    }

    #[test]
    fn the_object_form() {
        let all = LabelSelector::from_object(&json!({})).unwrap();
        assert!(all.is_everything() && all.matches(&Object::new()));
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(&Object::new()));
        let selector =
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]});
        let selector = LabelSelector::from_object(&selector).unwrap();
        assert!(selector.matches_object(&json!({"metadata": {"labels": {"a": "b"}}})));
        assert!(!selector.matches_object(&json!({"metadata": {"labels": {"a": "b", "c": "d"}}})));
    }
}
