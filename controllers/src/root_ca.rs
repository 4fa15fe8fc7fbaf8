//! The ConfigMap `kube-root-ca.crt` in every namespace: how pods know the API server. Upstream: pkg/controller/certificates/rootcacertpublisher.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    action::Action,
    controller::{Change, Concurrency, Controller, Key},
    resource,
    snapshot::Snapshot,
    view::ROOT_CA_NAME,
};

const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) const CONTROLLER: Controller = Controller {
    name: "root-ca-cert-publisher",
    watches: &[resource::NAMESPACES, resource::CONFIG_MAPS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(_: &Snapshot, change: &Change) -> Vec<Key> {
    match &*change.resource {
        resource::NAMESPACES => vec![change.key.clone()],
        _ if &*change.key.name == ROOT_CA_NAME => vec![Key::new("", &*change.key.namespace)],
        _ => Vec::new(),
    }
}

fn reconcile(snapshot: &Snapshot, key: &Key, _: Timestamp) -> Vec<Action> {
    let pem = &snapshot.settings.root_ca_pem;
    if pem.is_empty() || !snapshot.namespace_active(&key.name) {
        return Vec::new();
    }
    let Some(map) = snapshot.config_maps.named(&key.name, ROOT_CA_NAME) else {
        return vec![Action::Create {
            resource: resource::CONFIG_MAPS.into(),
            namespace: key.name.to_string(),
            object: json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": ROOT_CA_NAME,
                    "namespace": &*key.name,
                    "annotations": { "kubernetes.io/description": DESCRIPTION },
                },
                "data": { "ca.crt": pem },
            }),
        }];
    };
    let right = map.data.len() == 1 && map.data.get("ca.crt") == Some(pem);
    if right || map.meta.deleting() {
        return Vec::new();
    }
    let mut data: serde_json::Map<_, _> = map.data.keys().map(|name| (name.clone(), json!(null))).collect();
    data.insert("ca.crt".to_owned(), pem.as_str().into());
    vec![Action::patch_exact(resource::CONFIG_MAPS, &map.meta, None, json!({ "data": data }))]
}
