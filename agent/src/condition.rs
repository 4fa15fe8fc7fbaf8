//! Whether the node has addresses left, as a condition of its Node: whoever wonders why pods wait there reads it with
//! `kubectl describe node`, and a scheduler or autoscaler may act on it.
//!
//! The type is our own. `NetworkUnavailable` is for a node whose network does not work at all; here running pods go on.
//! Level-triggered: what is wanted is compared with what was last stored, and tried again until it is.
use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{Shared, ipam};

/// The condition's type. `True`: no pod more gets an address on this node.
pub const EXHAUSTED: &str = "weft.net/AddressesExhausted";
/// After a change that no round of the engine told of, or a patch that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What the condition says.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Said {
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// Keeps the condition for ever.
pub async fn keep(client: Client, shared: Arc<Shared>) {
    let nodes: Api<Node> = Api::all(client);
    let mut in_force = shared.in_force.clone();
    let mut stored: Option<Said> = None;
    let mut complained = false;
    loop {
        let wanted = wanted(&shared).filter(|wanted| stored.as_ref() != Some(wanted));
        if let Some(wanted) = wanted {
            match store(&nodes, &shared.args.node_name, &wanted).await {
                Ok(()) => (stored, complained) = (Some(wanted), false),
                Err(error) if !complained => {
                    tracing::warn!(
                        error = crate::chain(&error),
                        "the Node's condition {EXHAUSTED} cannot be written; trying again"
                    );
                    complained = true;
                }
                Err(_) => {}
            }
        }
        // Each interface that comes or goes makes a round. An error means that the engine is gone and the agent ends.
        if let Ok(Err(_)) = tokio::time::timeout(AGAIN, in_force.changed()).await {
            return;
        }
    }
}

/// None as long as the node has no range: then there is nothing to say.
fn wanted(shared: &Shared) -> Option<Said> {
    let pods = &shared.started.get()?.pods;
    let ranges = pods.ranges().ok()?;
    Some(match ipam::full(&ranges, &pods.entries()) {
        Some(full) => {
            let message = format!("{full}: delete pods of this node, or give its pods to another one");
            Said { status: "True", reason: "NoAddressLeft", message }
        }
        None => {
            let message = "pods of this node get addresses".to_owned();
            Said { status: "False", reason: "AddressesLeft", message }
        }
    })
}

/// Writes the condition unless it is there; the time of its last transition is that of its status.
async fn store(nodes: &Api<Node>, name: &str, wanted: &Said) -> Result<(), kube::Error> {
    let node = nodes.get_status(name).await?;
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let old = conditions.into_iter().find(|condition| condition.type_ == EXHAUSTED);
    let Some(condition) = renewed(old, wanted, Time(Timestamp::now())) else { return Ok(()) };
    let patch = json!({ "status": { "conditions": [condition] } });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
}

/// Removes the condition; false if there is none, or no Node.
///
/// # Errors
/// What the API server said.
pub async fn remove(client: Client, name: &str) -> Result<bool, kube::Error> {
    let nodes: Api<Node> = Api::all(client);
    let node = match nodes.get_status(name).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        other => other?,
    };
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == EXHAUSTED) {
        return Ok(false);
    }
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(removal())).await.map(|_| true)
}

fn removal() -> serde_json::Value {
    json!({ "status": { "conditions": [{ "type": EXHAUSTED, "$patch": "delete" }] } })
}

/// What removes the condition by hand.
pub fn command(name: &str) -> String {
    format!("kubectl patch node {name} --subresource=status --type=strategic --patch='{}'", removal())
}

/// The condition to be written; none if the old one says it already.
fn renewed(old: Option<NodeCondition>, wanted: &Said, now: Time) -> Option<NodeCondition> {
    let old = old.unwrap_or_default();
    let same = old.status == wanted.status;
    if same && old.reason.as_deref() == Some(wanted.reason) && old.message.as_deref() == Some(&wanted.message) {
        return None;
    }
    let since = old.last_transition_time.filter(|_| same).unwrap_or_else(|| now.clone());
    Some(NodeCondition {
        type_: EXHAUSTED.to_owned(),
        status: wanted.status.to_owned(),
        reason: Some(wanted.reason.to_owned()),
        message: Some(wanted.message.clone()),
        last_heartbeat_time: Some(now),
        last_transition_time: Some(since),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &'static str, message: &str) -> Said {
        Said { status, reason: "r", message: message.to_owned() }
    }

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).expect("a time"))
    }

    #[track_caller]
    fn check(old: Option<NodeCondition>, wanted: &Said, expected: Option<&Time>) -> Option<NodeCondition> {
        let renewed = renewed(old, wanted, at(9));
        assert_eq!(renewed.as_ref().and_then(|condition| condition.last_transition_time.as_ref()), expected);
        renewed
    }

    #[test]
    fn the_time_is_that_of_the_status() {
        let first = check(None, &said("True", "a"), Some(&at(9)));
        let early = first.map(|condition| NodeCondition { last_transition_time: Some(at(1)), ..condition });
        check(early.clone(), &said("True", "a"), None);
        check(early.clone(), &said("True", "b"), Some(&at(1)));
        check(early, &said("False", "a"), Some(&at(9)));
    }
}
