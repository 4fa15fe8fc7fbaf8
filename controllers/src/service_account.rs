//! The `default` ServiceAccount of every namespace. Upstream: pkg/controller/serviceaccount.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::Snapshot,
};

const NAME: &str = "default";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-account-controller",
    watches: &[resource::NAMESPACES, resource::SERVICE_ACCOUNTS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(_: &Snapshot, change: &Change) -> Vec<Key> {
    match &*change.resource {
        resource::NAMESPACES => vec![change.key.clone()],
        _ if &*change.key.name == NAME && change.new.is_none() => vec![Key::new("", &*change.key.namespace)],
        _ => Vec::new(),
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let account = Key::new(&*key.name, NAME);
    if !snapshot.namespace_active(&key.name) || snapshot.indexes.item(resource::SERVICE_ACCOUNTS, &account).is_some() {
        return Vec::new();
    }
    vec![Action::Create {
        resource: resource::SERVICE_ACCOUNTS.into(),
        namespace: key.name.to_string(),
        object: json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": NAME, "namespace": &*key.name },
        }),
    }]
}
