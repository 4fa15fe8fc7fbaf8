//! Admission webhooks and policies.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, cell};
use crate::path;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            ("Name|Webhooks:integer|Age", |object, now| {
                vec![cell::name(object), json!(path::list(object, "webhooks").len()), cell::age(object, now)]
            })
        }
        "ValidatingAdmissionPolicy" => {
            ("Name|Validations:integer|ParamKind|Age", |object, now| policy(object, "spec.validations", now))
        }
        "MutatingAdmissionPolicy" => {
            ("Name|Mutations:integer|ParamKind|Age", |object, now| policy(object, "spec.mutations", now))
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            ("Name|PolicyName|ParamRef|Age", binding)
        }
        _ => return None,
    };
    Some(View { columns, cells })
}

fn policy(object: &Value, rules: &str, now: Timestamp) -> Vec<Value> {
    let kind = match path::get(object, "spec.paramKind") {
        Value::Null => cell::UNSET.to_owned(),
        kind => format!("{}/{}", path::str(kind, "apiVersion"), path::str(kind, "kind")),
    };
    vec![cell::name(object), json!(path::list(object, rules).len()), json!(kind), cell::age(object, now)]
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference = match path::get(object, "spec.paramRef") {
        Value::Null => cell::UNSET.to_owned(),
        reference => match (path::str(reference, "namespace"), path::str(reference, "name")) {
            ("", "") => "*".to_owned(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    };
    vec![cell::name(object), json!(path::str(object, "spec.policyName")), json!(reference), cell::age(object, now)]
}
