//! The pods of this node: what the API server says → one worker per pod.
//!
//! A worker is started for every pod that is bound here and told of every change. A pod that a complete list does not name
//! any more is gone. While the API server is away nothing is known to be gone, and everything goes on.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use tokio::sync::{Notify, watch};

use crate::context::Node;
use crate::pod_worker;

/// How often what no pod owns is looked for.
const CLEAN: Duration = Duration::from_secs(60);

/// The newest of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) pod: Arc<Pod>,
    /// It is gone from the API server.
    pub(crate) removed: bool,
}

struct Worker {
    updates: watch::Sender<Update>,
    wake: Arc<Notify>,
}

/// The pods that this node has workers for, by uid.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    workers: Arc<Mutex<HashMap<String, Worker>>>,
}

impl Pods {
    /// All pods, as they were seen last.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        let workers = self.workers.lock().expect("no panic happens under this lock");
        workers.values().map(|worker| worker.updates.borrow().pod.clone()).collect()
    }

    /// A pod by namespace and name; of several with one name, the one that is not being deleted.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let is = |pod: &&Arc<Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        let all = self.all();
        all.iter().filter(is).min_by_key(|pod| pod.metadata.deletion_timestamp.is_some()).cloned()
    }

    fn apply(&self, node: &Arc<Node>, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let update = Update { pod: Arc::new(pod), removed: false };
        let mut workers = self.workers.lock().expect("no panic happens under this lock");
        if let Some(worker) = workers.get(&uid) {
            worker.updates.send_replace(update);
            return;
        }
        let (updates, receiver) = watch::channel(update);
        let wake = Arc::new(Notify::new());
        workers.insert(uid.clone(), Worker { updates, wake: wake.clone() });
        let (node, pods) = (node.clone(), self.clone());
        tokio::spawn(async move {
            pod_worker::run(node, receiver, wake).await;
            pods.workers.lock().expect("no panic happens under this lock").remove(&uid);
        });
    }

    fn remove(&self, uid: &str) {
        if let Some(worker) = self.workers.lock().expect("no panic happens under this lock").get(uid) {
            worker.updates.send_modify(|update| update.removed = true);
        }
    }

    fn uids(&self) -> HashSet<String> {
        self.workers.lock().expect("no panic happens under this lock").keys().cloned().collect()
    }

    fn wake(&self, uid: &str) {
        if let Some(worker) = self.workers.lock().expect("no panic happens under this lock").get(uid) {
            worker.wake.notify_one();
        }
    }
}

/// Watches the node's pods for as long as it runs.
pub(crate) async fn keep(node: Arc<Node>, pods: Pods) {
    tokio::spawn(pass_ends(node.clone(), pods.clone()));
    let api: Api<Pod> = Api::all(node.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let mut stream = pin!(watch_objects(api, config).default_backoff());
    let mut listed: HashSet<String> = HashSet::new();
    let mut clean = tokio::time::interval(CLEAN);
    let mut synced = false;
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            _ = clean.tick(), if synced => {
                clean_up(&node, &pods.uids()).await;
                continue;
            }
        };
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                pods.apply(&node, pod);
            }
            Some(Ok(Event::InitDone)) => {
                for gone in pods.uids().difference(&listed) {
                    pods.remove(gone);
                }
                synced = true;
                clean.reset_immediately();
            }
            Some(Ok(Event::Apply(pod))) => pods.apply(&node, pod),
            Some(Ok(Event::Delete(pod))) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                pods.replace(pod);
                pods.remove(&uid);
            }
            Some(Err(error)) => tracing::warn!(%error, "the watch on this node's pods is interrupted"),
            None => return,
        }
    }
}

impl Pods {
    /// The last word on a pod, without starting a worker for it.
    fn replace(&self, pod: Pod) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(worker) = self.workers.lock().expect("no panic happens under this lock").get(&uid) {
            worker.updates.send_replace(Update { pod: Arc::new(pod), removed: false });
        }
    }
}

/// Wakes a pod's worker when one of its containers has ended.
async fn pass_ends(node: Arc<Node>, pods: Pods) {
    let mut ends = node.runtime.events();
    loop {
        match ends.recv().await {
            Ok(ended) => pods.wake(&ended.pod_uid),
            // Some were missed: everybody looks.
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                pods.uids().iter().for_each(|uid| pods.wake(uid));
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Takes down what belongs to no pod: leftovers of pods that went while this node was away.
async fn clean_up(node: &Node, known: &HashSet<String>) {
    for sandbox in node.runtime.sandboxes(None).into_iter().filter(|sandbox| !known.contains(&sandbox.pod.uid)) {
        tracing::info!(
            pod = sandbox.pod.name,
            namespace = sandbox.pod.namespace,
            "a sandbox of a pod that is gone is taken down"
        );
        if let Err(error) = node.runtime.remove_sandbox(&sandbox.id).await {
            tracing::warn!(error = error.text(), sandbox = sandbox.id, "a sandbox could not be taken down");
        }
    }
    let left: HashSet<String> = node.runtime.sandboxes(None).into_iter().map(|sandbox| sandbox.pod.uid).collect();
    for entry in std::fs::read_dir(node.state_dir.join("pods")).into_iter().flatten().filter_map(Result::ok) {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&uid)
            && !left.contains(&uid)
            && let Err(error) = crate::volumes::tear_down(&entry.path())
        {
            tracing::warn!(%error, pod = uid, "a pod's directory could not be removed");
        }
    }
}
