//! The objects that every cluster has before anybody asks: namespaces, priority classes, roles and their bindings.
//!
//! What is missing is made; what an administrator has changed stays, but for rules that a role of ours has lost.
use api::schema::row;
use api::status::Status;
use serde_json::{Value, json};

use super::role;
use crate::authn::User;
use crate::registry::{Preconditions, Registry, Target};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) async fn run(registry: &Registry) -> Result<(), Status> {
    for name in NAMESPACES {
        let object = json!({"metadata": {"name": name}});
        ensure(registry, ("", "v1", "namespaces"), object, false).await?;
    }
    for (name, value, about) in [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let object = json!({"metadata": {"name": name}, "value": value, "description": about, "preemptionPolicy": "PreemptLowerPriority"});
        ensure(registry, ("scheduling.k8s.io", "v1", "priorityclasses"), object, false).await?;
    }
    for object in role::cluster_roles() {
        ensure(registry, (RBAC, "v1", "clusterroles"), object, true).await?;
    }
    for object in role::cluster_role_bindings() {
        ensure(registry, (RBAC, "v1", "clusterrolebindings"), object, false).await?;
    }
    Ok(())
}

async fn ensure(
    registry: &Registry,
    (group, version, resource): (&str, &str, &str),
    object: Value,
    rules: bool,
) -> Result<(), Status> {
    let row = row(group, version, resource).ok_or_else(Status::path_not_found)?;
    let user = User::internal("system:apiserver");
    let name = api::path::str(&object, "metadata.name").to_owned();
    let target = Target { user: &user, row, namespace: "", name: &name, subresource: "" };
    let Some(found) = registry.find(row.storage_key, "", &name) else {
        return registry.create(&target, object, false).await.map(|_| ());
    };
    let held = api::path::list(&found, "rules");
    let missing: Vec<Value> =
        api::path::list(&object, "rules").iter().filter(|rule| !held.contains(rule)).cloned().collect();
    if !rules || missing.is_empty() {
        return Ok(());
    }
    let change = |old: &Value| {
        let mut new = old.clone();
        let rules = [api::path::list(old, "rules"), &missing].concat();
        api::path::object(&mut new).insert("rules".to_owned(), rules.into());
        Ok(new)
    };
    registry.update(&target, &Preconditions::default(), false, change).await.map(|_| ())
}
