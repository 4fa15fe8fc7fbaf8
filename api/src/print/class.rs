//! Leases, classes, certificates, disruption budgets, definitions and the rest of the smaller groups.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, age, cell};
use crate::path;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "Lease" => ("Name|Holder|Age", |object, now| {
            vec![cell::name(object), json!(path::str(object, "spec.holderIdentity")), cell::age(object, now)]
        }),
        "PriorityClass" => ("Name|Value:integer|Global-Default:boolean|Age|PreemptionPolicy", |object, now| {
            let policy = json!(path::str(object, "preemptionPolicy"));
            vec![
                cell::name(object),
                cell::number(object, "value"),
                json!(path::bool(object, "globalDefault")),
                cell::age(object, now),
                policy,
            ]
        }),
        "RuntimeClass" => ("Name|Handler|Age", |object, now| {
            vec![cell::name(object), json!(path::str(object, "handler")), cell::age(object, now)]
        }),
        "CertificateSigningRequest" => ("Name|Age|SignerName|Requestor|RequestedDuration|Condition", signing_request),
        "APIService" => ("Name|Service|Available|Age", api_service),
        "FlowSchema" => {
            ("Name|PriorityLevel|MatchingPrecedence:integer|DistinguisherMethod|Age|MissingPL", flow_schema)
        }
        "ResourceClaim" => ("Name|State|Age", resource_claim),
        "ResourceSlice" => ("Name|Node|Driver|Pool|Age", |object, now| {
            let of = |at: &str| json!(path::str(object, at));
            vec![
                cell::name(object),
                of("spec.nodeName"),
                of("spec.driver"),
                of("spec.pool.name"),
                cell::age(object, now),
            ]
        }),
        "ResourceClaimTemplate" | "DeviceClass" => {
            ("Name|Age", |object, now| vec![cell::name(object), cell::age(object, now)])
        }
        _ => return None,
    };
    Some(View { columns, cells })
}

pub(super) fn budget_view(kind: &str) -> Option<View> {
    let columns = "Name|Min Available|Max Unavailable|Allowed Disruptions:integer|Age";
    (kind == "PodDisruptionBudget").then_some(View { columns, cells: budget })
}

fn budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |at: &str| match path::get(object, at) {
        Value::Null => json!("N/A"),
        value => json!(cell::plain(value)),
    };
    vec![
        cell::name(object),
        of("spec.minAvailable"),
        of("spec.maxUnavailable"),
        cell::number(object, "status.disruptionsAllowed"),
        cell::age(object, now),
    ]
}

fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut conditions: Vec<&str> =
        path::list(object, "status.conditions").iter().map(|c| path::str(c, "type")).collect();
    if conditions.is_empty() {
        conditions.push("Pending");
    }
    if !path::str(object, "status.certificate").is_empty() {
        conditions.push("Issued");
    }
    let duration =
        path::int(object, "spec.expirationSeconds").map_or_else(|| cell::NONE.to_owned(), age::human_duration);
    vec![
        cell::name(object),
        cell::age(object, now),
        json!(cell::text(object, "spec.signerName", cell::NONE)),
        json!(path::str(object, "spec.username")),
        json!(duration),
        json!(conditions.join(",")),
    ]
}

fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match path::get(object, "spec.service") {
        Value::Null => "Local".to_owned(),
        service => format!("{}/{}", path::str(service, "namespace"), path::str(service, "name")),
    };
    let available = path::list(object, "status.conditions").iter().find(|c| path::str(c, "type") == "Available");
    let available = match available.map(|c| (path::str(c, "status"), path::str(c, "reason"))) {
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
        None => "Unknown".to_owned(),
    };
    vec![cell::name(object), json!(service), json!(available), cell::age(object, now)]
}

fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let missing = match cell::condition(object, "Dangling") {
        None | Some("") => "?",
        Some(status) => status,
    };
    vec![
        cell::name(object),
        json!(path::str(object, "spec.priorityLevelConfiguration.name")),
        cell::number(object, "spec.matchingPrecedence"),
        json!(cell::text(object, "spec.distinguisherMethod.type", cell::NONE)),
        cell::age(object, now),
        json!(missing),
    ]
}

fn resource_claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut states = Vec::new();
    if !path::get(object, "metadata.deletionTimestamp").is_null() {
        states.push("deleted");
    }
    if path::get(object, "status.allocation").is_null() {
        if states.is_empty() {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        let reserved = !path::list(object, "status.reservedFor").is_empty();
        states.extend(reserved.then_some("reserved"));
    }
    vec![cell::name(object), json!(states.join(",")), cell::age(object, now)]
}
