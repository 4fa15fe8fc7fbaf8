//! What a fault must not touch: containers by their ids, and nodes' readiness by the time of its last change.
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, api::ListParams};

/// A reading.
pub(super) struct Still(BTreeMap<String, String>);

impl Still {
    /// Pods of the check and of the guestbook that are not about to go, and all nodes.
    pub(super) async fn read(client: &Client, namespace: &str) -> anyhow::Result<Still> {
        let mut facts = BTreeMap::new();
        for namespace in [namespace, "guestbook"] {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            for pod in pods.list(&ListParams::default()).await? {
                if pod.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                let name = pod.metadata.name.unwrap_or_default();
                let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
                let containers = statuses.iter().map(|container| {
                    let id = container.container_id.as_deref().unwrap_or("none");
                    format!("{} restarted {} times, ready {}", id, container.restart_count, container.ready)
                });
                facts.insert(format!("pod {namespace}/{name}"), containers.collect::<Vec<_>>().join(", "));
            }
        }
        let nodes: Api<Node> = Api::all(client.clone());
        for node in nodes.list(&ListParams::default()).await? {
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").map(|ready| {
                let since = ready.last_transition_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
                format!("Ready {} since {since}", ready.status)
            });
            let name = node.metadata.name.unwrap_or_default();
            facts.insert(format!("node {name}"), ready.unwrap_or_else(|| "no condition Ready".to_owned()));
        }
        Ok(Still(facts))
    }

    /// How much is watched.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is not as it was; what is new is no concern of ours.
    pub(super) fn changes(&self, now: &Still) -> Vec<String> {
        let changed = self.0.iter().filter(|(name, fact)| now.0.get(*name) != Some(fact));
        changed.map(|(name, fact)| format!("{name}: was {fact}, is {:?}", now.0.get(name))).collect()
    }
}
