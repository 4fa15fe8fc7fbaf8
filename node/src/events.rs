//! Events on pods and on the node, as the kubelet records them: core/v1, source `kubelet`.
//!
//! Recording never waits and never fails a pod: events go through a bounded queue to one task, which counts repetitions in
//! the existing object and drops what cannot be delivered after a few tries.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc;

/// Events that may wait for the API server; more are dropped.
const QUEUE: usize = 1000;
/// Distinct events that are remembered for counting.
const REMEMBERED: usize = 4096;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Happened {
    involved: (String, String, String, String, String),
    warning: bool,
    reason: String,
    message: String,
}

/// Records events of one node.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    queue: mpsc::Sender<Happened>,
    node: String,
}

impl Recorder {
    /// Starts the task that delivers them.
    pub(crate) fn start(client: Client, node: &str) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(deliver(client, node.to_owned(), waiting));
        Self { queue, node: node.to_owned() }
    }

    /// Something ordinary about a pod.
    pub(crate) fn normal(&self, pod: &Pod, container: Option<&str>, reason: &str, message: String) {
        self.record(pod_reference(pod, container), false, reason, message);
    }

    /// Something wrong with a pod.
    pub(crate) fn warning(&self, pod: &Pod, container: Option<&str>, reason: &str, message: String) {
        self.record(pod_reference(pod, container), true, reason, message);
    }

    /// Something about the node itself; its uid is its name, as the kubelet has it.
    pub(crate) fn node(&self, reason: &str, message: String) {
        self.record(self.node_reference(), false, reason, message);
    }

    /// Something wrong with the node itself.
    pub(crate) fn node_warning(&self, reason: &str, message: String) {
        self.record(self.node_reference(), true, reason, message);
    }

    fn node_reference(&self) -> (String, String, String, String, String) {
        ("Node".to_owned(), String::new(), self.node.clone(), self.node.clone(), String::new())
    }

    fn record(&self, involved: (String, String, String, String, String), warning: bool, reason: &str, message: String) {
        let event = Happened { involved, warning, reason: reason.to_owned(), message };
        if self.queue.try_send(event).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait for the API server");
        }
    }
}

/// Kind, namespace, name, uid and field path of a pod or one of its containers.
fn pod_reference(pod: &Pod, container: Option<&str>) -> (String, String, String, String, String) {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let init = |name: &&str| {
        pod.spec.as_ref().is_some_and(|spec| spec.init_containers.iter().flatten().any(|one| one.name == *name))
    };
    let path =
        container.map(|name| format!("spec.{}{{{name}}}", if init(&name) { "initContainers" } else { "containers" }));
    let metadata = &pod.metadata;
    ("Pod".to_owned(), text(&metadata.namespace), text(&metadata.name), text(&metadata.uid), path.unwrap_or_default())
}

async fn deliver(client: Client, node: String, mut waiting: mpsc::Receiver<Happened>) {
    let mut known: HashMap<Happened, (String, i32)> = HashMap::new();
    while let Some(happened) = waiting.recv().await {
        let namespace = if happened.involved.1.is_empty() { "default" } else { &happened.involved.1 };
        let api: Api<Event> = Api::namespaced(client.clone(), namespace);
        for attempt in 0..5_u64 {
            match send(&api, &node, &happened, &mut known).await {
                Err(error) if !is_final(&error) => tokio::time::sleep(Duration::from_secs(attempt + 1)).await,
                Err(error) => {
                    tracing::debug!(%error, reason = happened.reason, "an event was refused");
                    break;
                }
                Ok(()) => break,
            }
        }
        if known.len() > REMEMBERED {
            known.clear();
        }
    }
}

/// An answer of the API server is an answer; only a missing one is worth another try.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code < 500)
}

async fn send(
    api: &Api<Event>,
    node: &str,
    happened: &Happened,
    known: &mut HashMap<Happened, (String, i32)>,
) -> Result<(), kube::Error> {
    if let Some((name, count)) = known.get_mut(happened) {
        *count += 1;
        let patch = serde_json::json!({"count": *count, "lastTimestamp": Time(Timestamp::now())});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            // It has outlived its hour in the API server: made anew below.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            other => return other.map(|_| ()),
        }
    }
    let event = object(node, happened);
    let name = event.metadata.name.clone().unwrap_or_default();
    api.create(&PostParams::default(), &event).await?;
    known.insert(happened.clone(), (name, 1));
    Ok(())
}

fn object(node: &str, happened: &Happened) -> Event {
    let now = Timestamp::now();
    let (kind, namespace, name, uid, path) = happened.involved.clone();
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            namespace: some(namespace.clone()).or(Some("default".to_owned())),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(Pod::api_version(&()).into_owned()),
            kind: Some(kind),
            name: Some(name),
            namespace: some(namespace),
            uid: some(uid),
            field_path: some(path),
            ..ObjectReference::default()
        },
        type_: Some(if happened.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(happened.reason.clone()),
        message: Some(happened.message.chars().take(1024).collect()),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
