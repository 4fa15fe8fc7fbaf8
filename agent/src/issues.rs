//! Issues → Events on the objects: whoever describes the object reads why it is not in force. Best effort.
use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use objects::{EndpointSlice, Issue, NetworkPolicy, Object};
use tokio::sync::watch;

use crate::engine::{InForce, Inbox};

/// Tells each issue once, for as long as the agent runs.
pub async fn tell(client: Client, node: String, inbox: Arc<Inbox>, mut in_force: watch::Receiver<InForce>) {
    let reporter = Reporter { controller: "weft-agent".to_owned(), instance: Some(node) };
    let recorder = Recorder::new(client, reporter);
    let mut told: BTreeSet<Issue> = BTreeSet::new();
    while in_force.changed().await.is_ok() {
        let compiled = in_force.borrow_and_update().compiled.clone();
        let issues: BTreeSet<Issue> = compiled.issues.iter().cloned().collect();
        for issue in issues.difference(&told) {
            tracing::warn!("{issue}");
            let event = Event {
                type_: EventType::Warning,
                reason: issue.reason.to_owned(),
                note: Some(issue.message.clone()),
                action: "Compile".to_owned(),
                secondary: None,
            };
            if let Err(error) = recorder.publish(&event, &reference(issue, &inbox)).await {
                tracing::debug!(error = crate::chain(&error), "an issue could not be told as an Event");
            }
        }
        told = issues;
    }
}

fn reference(issue: &Issue, inbox: &Inbox) -> ObjectReference {
    let state = inbox.snapshot();
    let uid = match issue.kind {
        "NetworkPolicy" => state.policies.get(&issue.key).map(|object| object.uid.to_string()),
        "Service" => state.services.get(&issue.key).map(|object| object.uid.to_string()),
        "Pod" => state.pods.get(&issue.key).map(|object| object.uid.to_string()),
        "Node" => state.nodes.get(&issue.key).map(|object| object.uid.to_string()),
        _ => None,
    };
    let group = match issue.kind {
        "NetworkPolicy" => Some(NetworkPolicy::API),
        "EndpointSlice" => Some(EndpointSlice::API),
        _ => None,
    };
    ObjectReference {
        api_version: Some(group.map_or("v1".to_owned(), |api| format!("{}/{}", api.group, api.version))),
        kind: Some(issue.kind.to_owned()),
        name: Some(issue.key.name.to_string()),
        namespace: Some(issue.key.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        uid,
        ..ObjectReference::default()
    }
}
