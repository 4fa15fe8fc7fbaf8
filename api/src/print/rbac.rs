//! Roles and bindings.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, cell};
use crate::path;

/// Roles have upstream's default view: name and creation time.
pub(super) fn view(kind: &str) -> Option<View> {
    let columns = "Name|Role|Age|*Users|*Groups|*ServiceAccounts";
    matches!(kind, "RoleBinding" | "ClusterRoleBinding").then_some(View { columns, cells: binding })
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", path::str(object, "roleRef.kind"), path::str(object, "roleRef.name"));
    let subjects = |kind: &str| {
        let of_kind = path::list(object, "subjects").iter().filter(|s| path::str(s, "kind") == kind);
        let names = of_kind.map(|s| match path::str(s, "namespace") {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", path::str(s, "name")),
            _ => path::str(s, "name").to_owned(),
        });
        json!(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        cell::name(object),
        json!(role),
        cell::age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
