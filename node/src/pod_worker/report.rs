//! Telling the API server: a pod's status, and in the end that it can go.
//!
//! Statuses are never lost: the newest is tried until it is accepted, or the pod is gone. They do not hold up the worker.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(10);

/// Sends one pod's statuses.
pub(super) struct Reporter {
    newest: watch::Sender<PodStatus>,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Starts the task; `known` is the status that the API server has.
    pub(super) fn start(client: Client, pod: &Pod, known: PodStatus) -> Self {
        let (newest, receiver) = watch::channel(known);
        let api = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or_default());
        let name = pod.metadata.name.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        Self { newest, task: tokio::spawn(send_all(api, name, uid, receiver)) }
    }

    /// The API server is to have this status. What it has (`stored`) may have been overwritten: of a node that was not
    /// heard of for a while, the control plane marks every pod as not ready.
    pub(super) fn set(&self, status: PodStatus, stored: Option<&PodStatus>) {
        self.newest.send_if_modified(|old| {
            let changed = *old != status || stored.is_some_and(|stored| overwritten(stored, &status));
            *old = status;
            changed
        });
    }

    /// Waits until the last status has been accepted or the pod is gone.
    pub(super) async fn finish(self) {
        drop(self.newest);
        // Only this worker could have cancelled it.
        let _ = self.task.await;
    }
}

/// Whether one of our conditions is there with another status.
fn overwritten(stored: &PodStatus, ours: &PodStatus) -> bool {
    ours.conditions.iter().flatten().any(|own| {
        let there = stored.conditions.iter().flatten().find(|there| there.type_ == own.type_);
        there.is_some_and(|there| there.status != own.status)
    })
}

async fn send_all(api: Api<Pod>, name: String, uid: String, mut newest: watch::Receiver<PodStatus>) {
    while newest.changed().await.is_ok() {
        let mut wait = Duration::from_millis(200);
        loop {
            let status = newest.borrow_and_update().clone();
            match api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&body(&uid, &status))).await {
                Ok(_) => break,
                Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => {
                    // Gone, or another pod of this name: there is nobody to tell.
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, pod = name, "a pod's status could not be sent");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
    }
}

/// Fields that may have to go are sent as null; conditions merge by type, so that those of others stay. Addresses would
/// merge too: those of an earlier sandbox would stay.
fn body(uid: &str, status: &PodStatus) -> serde_json::Value {
    let mut status = serde_json::to_value(status).expect("a status is JSON");
    for field in ["message", "reason"] {
        if status.get(field).is_none() {
            status[field] = serde_json::Value::Null;
        }
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        for field in ["message", "reason"] {
            if condition.get(field).is_none() {
                condition[field] = serde_json::Value::Null;
            }
        }
    }
    for field in ["podIPs", "hostIPs"] {
        if let Some(ips) = status.get_mut(field).and_then(|ips| ips.as_array_mut()) {
            ips.insert(0, serde_json::json!({"$patch": "replace"}));
        }
    }
    serde_json::json!({"metadata": {"uid": uid}, "status": status})
}

/// Tells the API server that nothing of the pod is left, until it says so itself.
pub(super) async fn delete(client: Client, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = pod.metadata.name.clone().unwrap_or_default();
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let mut wait = Duration::from_millis(200);
    loop {
        match api.delete(&name, &params).await {
            Ok(_) => return,
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => return,
            Err(error) => tracing::warn!(%error, pod = name, "a pod's end could not be told"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_overwritten(stored: &[(&str, &str)], expected: bool) {
        let status = |conditions: &[(&str, &str)]| -> PodStatus {
            let list: Vec<_> = conditions.iter().map(|(t, s)| serde_json::json!({"type": t, "status": s})).collect();
            serde_json::from_value(serde_json::json!({"conditions": list})).expect("a status")
        };
        assert_eq!(overwritten(&status(stored), &status(&[("Ready", "True")])), expected);
    }

    #[test]
    fn what_somebody_else_wrote_over_is_said_again() {
        check_overwritten(&[("Ready", "False")], true);
        check_overwritten(&[("Ready", "True"), ("DisruptionTarget", "True")], false);
        check_overwritten(&[], false);
    }

    #[test]
    fn what_has_gone_is_null() {
        let status: PodStatus = serde_json::from_value(
            serde_json::json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "podIPs": [{"ip": "10.244.0.9"}, {"ip": "fd00:10:244::9"}]}),
        )
        .expect("a status");
        let body = body("u", &status);
        assert_eq!(body["metadata"]["uid"], "u");
        assert!(body["status"].as_object().expect("status").contains_key("message"));
        assert!(body["status"]["conditions"][0]["reason"].is_null());
        let ips = serde_json::json!([{"$patch": "replace"}, {"ip": "10.244.0.9"}, {"ip": "fd00:10:244::9"}]);
        assert_eq!((&body["status"]["podIPs"], body["status"].get("hostIPs")), (&ips, None));
    }
}
