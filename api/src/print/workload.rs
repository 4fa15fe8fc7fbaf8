//! Deployments, ReplicaSets, StatefulSets, DaemonSets and what else is made of a pod template.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, View, cell};
use crate::path;

pub(super) fn view(kind: &str) -> Option<View> {
    let (columns, cells): (&'static str, Cells) = match kind {
        "Deployment" => {
            ("Name|Ready|Up-to-date:integer|Available:integer|Age|*Containers|*Images|*Selector", deployment)
        }
        "ReplicaSet" | "ReplicationController" => {
            ("Name|Desired:integer|Current:integer|Ready:integer|Age|*Containers|*Images|*Selector", replica_set)
        }
        "StatefulSet" => ("Name|Ready|Age|*Containers|*Images", stateful_set),
        "DaemonSet" => (
            "Name|Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer|Node Selector|Age|*Containers|*Images|*Selector",
            daemon_set,
        ),
        "ControllerRevision" => ("Name|Controller|Revision:integer|Age", controller_revision),
        "PodTemplate" => ("Name|Containers|Images|Pod Labels", pod_template),
        _ => return None,
    };
    Some(View { columns, cells })
}

/// Containers, images and selector of a workload.
fn wide(object: &Value) -> Vec<Value> {
    let mut cells = cell::containers(path::get(object, "spec.template.spec")).to_vec();
    let selector = path::get(object, "spec.selector");
    let old_form = path::str(object, "kind") == "ReplicationController";
    cells.push(json!(if old_form { cell::labels(selector.as_object()) } else { cell::selector(selector) }));
    cells
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = path::int(object, "status.readyReplicas").unwrap_or(0);
    let mut cells = vec![
        cell::name(object),
        json!(format!("{ready}/{}", path::int(object, "spec.replicas").unwrap_or(0))),
        cell::number(object, "status.updatedReplicas"),
        cell::number(object, "status.availableReplicas"),
        cell::age(object, now),
    ];
    cells.extend(wide(object));
    cells
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let number = |at: &str| cell::number(object, at);
    let mut cells = vec![
        cell::name(object),
        number("spec.replicas"),
        number("status.replicas"),
        number("status.readyReplicas"),
        cell::age(object, now),
    ];
    cells.extend(wide(object));
    cells
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = path::int(object, "status.readyReplicas").unwrap_or(0);
    let mut cells = vec![
        cell::name(object),
        json!(format!("{ready}/{}", path::int(object, "spec.replicas").unwrap_or(0))),
        cell::age(object, now),
    ];
    cells.extend(cell::containers(path::get(object, "spec.template.spec")));
    cells
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = path::get(object, "status");
    let numbers = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let mut cells = vec![cell::name(object)];
    cells.extend(numbers.iter().map(|key| cell::number(status, key)));
    cells.push(json!(cell::labels(path::map(object, "spec.template.spec.nodeSelector"))));
    cells.push(cell::age(object, now));
    cells.extend(wide(object));
    cells
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = path::list(object, "metadata.ownerReferences").iter().find(|o| path::bool(o, "controller"));
    let owner = owner.map_or_else(
        || cell::NONE.to_owned(),
        |o| {
            let (group, _) = crate::schema::split_api_version(path::str(o, "apiVersion"));
            let kind = path::str(o, "kind").to_lowercase();
            let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
            format!("{kind}/{}", path::str(o, "name"))
        },
    );
    vec![cell::name(object), json!(owner), cell::number(object, "revision"), cell::age(object, now)]
}

fn pod_template(object: &Value, _: Timestamp) -> Vec<Value> {
    let [names, images] = cell::containers(path::get(object, "template.spec"));
    vec![cell::name(object), names, images, json!(cell::labels(path::map(object, "template.metadata.labels")))]
}
