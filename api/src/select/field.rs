//! Field selectors: `metadata.name=x,spec.nodeName!=y`, only on the fields that each kind allows.

use serde_json::Value;

use crate::{path, schema::Row, status::Status};

/// All terms must hold; none at all means everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Parses the query form; a field that the kind does not select by is upstream's 400.
    pub fn parse(row: &Row, text: &str) -> Result<FieldSelector, Status> {
        let mut terms = Vec::new();
        for part in split_terms(text).into_iter().filter(|p| !p.is_empty()) {
            let term = parse_term(&part)
                .ok_or_else(|| Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            if !allowed(row, &term.field) {
                return Err(unknown_field(row, &term.field));
            }
            terms.push(term);
        }
        Ok(FieldSelector { terms })
    }

    /// Whether the object meets all terms.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|t| (field_text(object, &t.field) == t.value) == t.equal)
    }

    /// Whether every object matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one name that can match: a list with it is a get.
    pub fn name(&self) -> Option<&str> {
        self.exact("metadata.name")
    }

    /// The one namespace that can match.
    pub fn namespace(&self) -> Option<&str> {
        self.exact("metadata.namespace")
    }

    /// The value that a field must have.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }
}

/// Splits at commas that no backslash guards.
fn split_terms(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            ',' if !escaped => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(part);
    parts
}

fn parse_term(part: &str) -> Option<Term> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at(at);
    let (equal, value) = match rest {
        r if r.starts_with("!=") => (false, &r[2..]),
        r if r.starts_with("==") => (true, &r[2..]),
        r if r.starts_with('=') => (true, &r[1..]),
        _ => return None,
    };
    Some(Term { field: field.to_owned(), equal, value: unescape(value)? })
}

/// `\\`, `\,` and `\=` are the escapes; an unescaped `=` or `,` or another escape is an error.
fn unescape(value: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// Fields that a kind selects by, beside its name and namespace.
fn fields_of(group: &str, resource: &str) -> &'static [&'static str] {
    match (group, resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase", "name"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

fn allowed(row: &Row, field: &str) -> bool {
    match field {
        "metadata.name" => true,
        "metadata.namespace" => row.namespaced() || !has_own_words(row),
        _ => fields_of(row.group, row.resource).contains(&field),
    }
}

/// Kinds with conversion functions of their own; upstream has another sentence for the rest.
fn has_own_words(row: &Row) -> bool {
    matches!(
        (row.group, row.resource),
        ("", "pods" | "nodes" | "events" | "secrets" | "namespaces" | "services" | "replicationcontrollers")
            | ("events.k8s.io" | "batch" | "certificates.k8s.io" | "apps" | "resource.k8s.io", _)
    )
}

fn unknown_field(row: &Row, field: &str) -> Status {
    Status::bad_request(if has_own_words(row) {
        format!("field label not supported: {field}")
    } else {
        format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    })
}

/// A field as text: absent is empty, but a boolean is `false`.
fn field_text(object: &Value, field: &str) -> String {
    match field {
        "source" => {
            let component = path::str(object, "source.component");
            let reporting = path::str(object, "reportingComponent");
            return (if component.is_empty() { reporting } else { component }).to_owned();
        }
        "reportingController" => return path::str(object, "reportingController").to_owned(),
        "status.podIPs" => {
            let ips: Vec<&str> = path::list(object, "status.podIPs").iter().map(|ip| path::str(ip, "ip")).collect();
            return ips.join(",");
        }
        "status.successful" => return path::int(object, "status.succeeded").unwrap_or(0).to_string(),
        "status.replicas" => return path::int(object, "status.replicas").unwrap_or(0).to_string(),
        "name" => return path::str(object, "metadata.name").to_owned(),
        _ => {}
    }
    match path::get(object, field) {
        Value::String(text) => text.clone(),
        Value::Null if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::row;

    #[track_caller]
    fn check(resource: &str, selector: &str, object: Value, expected: bool) {
        let row = row("", "v1", resource).unwrap();
        let got = FieldSelector::parse(row, selector).unwrap().matches(&object);
        assert_eq!(got, expected, "{selector} on {object}");
    }

    #[test]
    fn absent_is_empty_or_false() {
        check("nodes", "spec.unschedulable=false", json!({}), true);
        check("nodes", "spec.unschedulable=true", json!({"spec": {"unschedulable": true}}), true);
        check("pods", "spec.nodeName=", json!({"spec": {}}), true);
        check("pods", "spec.nodeName=n,status.phase!=Failed", json!({"spec": {"nodeName": "n"}}), true);
        check("pods", "status.podIPs=1.2.3.4", json!({"status": {"podIPs": [{"ip": "1.2.3.4"}]}}), true);
        check(
            "events",
            "involvedObject.namespace=,involvedObject.name=n1",
            json!({"involvedObject": {"name": "n1"}}),
            true,
        );
        check("events", "source=kubelet", json!({"source": {"component": "kubelet"}}), true);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let pods = row("", "v1", "pods").unwrap();
        let error = FieldSelector::parse(pods, "spec.foo=bar").unwrap_err();
        assert_eq!(error.code, 400);
        assert!(error.message.ends_with("field label not supported: spec.foo"), "{error}");
        assert_eq!(FieldSelector::parse(pods, "nonsense").unwrap_err().code, 400);
        assert_eq!(
            FieldSelector::parse(row("", "v1", "nodes").unwrap(), "metadata.namespace=a").map_err(|e| e.code),
            Err(400)
        );
    }

    #[test]
    fn a_name_is_found() {
        let selector =
            FieldSelector::parse(row("", "v1", "pods").unwrap(), "metadata.name=a,metadata.namespace=b").unwrap();
        assert_eq!((selector.name(), selector.namespace()), (Some("a"), Some("b")));
    }
}
