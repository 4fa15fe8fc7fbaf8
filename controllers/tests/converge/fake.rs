//! An API server in a few lines: one map, one log, merge patches, finalizers, graceful deletion of pods. Every tenth write of a
//! controller fails, half of them with a conflict.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use controllers::{
    action::{Action, Propagation},
    runner::{Api, ApiError, WatchEvent},
    snapshot::Kind,
};
use serde_json::{Value, json};

const KINDS: [(&str, &str, &str, bool); 11] = [
    ("pods", "v1", "Pod", true),
    ("nodes", "v1", "Node", false),
    ("namespaces", "v1", "Namespace", false),
    ("services", "v1", "Service", true),
    ("endpoints", "v1", "Endpoints", true),
    ("configmaps", "v1", "ConfigMap", true),
    ("serviceaccounts", "v1", "ServiceAccount", true),
    ("events", "v1", "Event", true),
    ("deployments.apps", "apps/v1", "Deployment", true),
    ("replicasets.apps", "apps/v1", "ReplicaSet", true),
    ("endpointslices.discovery.k8s.io", "discovery.k8s.io/v1", "EndpointSlice", true),
];

type Name = (String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    writes: u64,
    objects: BTreeMap<Name, Value>,
    log: Vec<WatchEvent>,
    watchers: Vec<Sender<WatchEvent>>,
    minimum: Option<usize>,
}

pub(crate) struct Fake(Mutex<State>);

fn error(code: u16, reason: &str) -> ApiError {
    ApiError { code, reason: reason.to_owned(), message: format!("fake: {reason}") }
}

fn name(resource: &str, namespace: &str, name: &str) -> Name {
    (resource.to_owned(), namespace.to_owned(), name.to_owned())
}

/// Running and ready.
pub(crate) fn runs(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::default()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    pub(crate) fn create(&self, resource: &str, namespace: &str, object: Value) {
        self.lock().create(resource, namespace, object).expect("a new object");
    }

    pub(crate) fn change(&self, resource: &str, namespace: &str, named: &str, patch: &Value) {
        self.lock().patch(&name(resource, namespace, named), patch, None).expect("the object is there");
    }

    pub(crate) fn get(&self, resource: &str, namespace: &str, named: &str) -> Option<Value> {
        self.lock().objects.get(&name(resource, namespace, named)).cloned()
    }

    pub(crate) fn all(&self, resource: &str) -> Vec<Value> {
        self.lock().of(resource).cloned().collect()
    }

    /// As if somebody had removed it at once.
    pub(crate) fn remove(&self, resource: &str, namespace: &str, named: &str) {
        self.lock().remove(&name(resource, namespace, named));
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// A user's delete, with a finalizer for foreground.
    pub(crate) fn begin_delete(&self, resource: &str, namespace: &str, named: &str, finalizer: Option<&str>) {
        let mut state = self.lock();
        if resource == "namespaces" {
            state.patch(&name(resource, namespace, named), &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Terminating"}}), None).expect("there");
            return;
        }
        if let Some(finalizer) = finalizer {
            state
                .patch(&name(resource, namespace, named), &json!({"metadata": {"finalizers": [finalizer]}}), None)
                .expect("there");
        }
        state.delete(&name(resource, namespace, named), Some(0)).expect("there");
    }

    /// Ends every watch, as compaction does, with changes that its watchers will not see.
    pub(crate) fn expire(&self, unseen: impl FnOnce(&Self)) {
        let watchers = std::mem::take(&mut self.lock().watchers);
        unseen(self);
        for watcher in watchers {
            let _gone = watcher.send(WatchEvent::Expired);
        }
    }

    pub(crate) fn ready_endpoints(&self) -> usize {
        let state = self.lock();
        let slices = state.of("endpointslices.discovery.k8s.io");
        let ends = slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        ends.filter(|end| end["conditions"]["ready"] == true).count()
    }

    /// From now on remembers the lowest number of ready pods that were not being deleted.
    pub(crate) fn watch_minimum(&self, now: usize) {
        self.lock().minimum = Some(now);
    }

    pub(crate) fn unwatch_minimum(&self) -> usize {
        self.lock().minimum.take().expect("watched")
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.lock();
        let lines = state
            .objects
            .iter()
            .filter(|(name, _)| name.0 != "events")
            .map(|((r, _, n), o)| format!("\n{r} {n} {} {}", o["spec"], o["status"]));
        let events = state.of("events").map(|e| format!("\n{} x{}: {}", e["reason"], e["count"], e["message"]));
        lines.chain(events).collect()
    }
}

impl State {
    fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |(name, _)| name.0 == resource).map(|(_, object)| object)
    }

    fn publish(&mut self, resource: &str, object: &mut Value, deleted: bool) -> u64 {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let event = WatchEvent::Change {
            revision: self.revision,
            resource: resource.into(),
            object: object.to_string().into_bytes().into(),
            deleted,
        };
        self.watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
        self.log.push(event);
        self.revision
    }

    fn put(&mut self, name: Name, mut object: Value) -> u64 {
        let revision = self.publish(&name.0, &mut object, false);
        self.objects.insert(name, object);
        if let Some(minimum) = self.minimum {
            let ready =
                self.of("pods").filter(|pod| runs(pod) && pod["metadata"]["deletionTimestamp"].is_null()).count();
            self.minimum = Some(minimum.min(ready));
        }
        revision
    }

    fn create(&mut self, resource: &str, namespace: &str, mut object: Value) -> Result<u64, ApiError> {
        let named = object["metadata"]["name"].as_str().expect("controllers name what they create").to_owned();
        let name = name(resource, namespace, &named);
        if self.objects.contains_key(&name) {
            return Err(error(409, "AlreadyExists"));
        }
        let home = self.objects.get(&self::name("namespaces", "", namespace));
        if !namespace.is_empty() && home.is_none_or(|home| !home["metadata"]["deletionTimestamp"].is_null()) {
            return Err(error(403, "Forbidden"));
        }
        object["metadata"]["uid"] = format!("uid-{}", self.revision + 1).into();
        object["metadata"]["creationTimestamp"] =
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        object["metadata"]["generation"] = 1.into();
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        Ok(self.put(name, object))
    }

    fn patch(&mut self, name: &Name, patch: &Value, subresource: Option<&str>) -> Result<u64, ApiError> {
        let Some(old) = self.objects.get(name) else { return Err(error(404, "NotFound")) };
        let mut new = old.clone();
        merge(&mut new, patch);
        if new == *old {
            return Ok(0);
        }
        if subresource != Some("status") && new["spec"] != old["spec"] {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        if finished(&name.0, &new) {
            return Ok(self.remove(name));
        }
        Ok(self.put(name.clone(), new))
    }

    fn remove(&mut self, name: &Name) -> u64 {
        let mut object = self.objects.remove(name).expect("it is there");
        self.publish(&name.0, &mut object, true)
    }

    fn delete(&mut self, name: &Name, grace: Option<u64>) -> Result<u64, ApiError> {
        let Some(old) = self.objects.get(name) else { return Err(error(404, "NotFound")) };
        let graceful = name.0 == "pods" && grace != Some(0) && old["spec"]["nodeName"].is_string();
        let held = !old["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if !graceful && !held {
            return Ok(self.remove(name));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Ok(0);
        }
        let mut new = old.clone();
        new["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        Ok(self.put(name.clone(), new))
    }

    fn precondition(&self, name: &Name, uid: Option<&String>, version: Option<&String>) -> Result<(), ApiError> {
        let Some(object) = self.objects.get(name) else { return Err(error(404, "NotFound")) };
        let differs = |want: Option<&String>, have: &Value| want.is_some_and(|want| have != want.as_str());
        let metadata = &object["metadata"];
        if differs(uid, &metadata["uid"]) || differs(version, &metadata["resourceVersion"]) {
            return Err(error(409, "Conflict"));
        }
        Ok(())
    }

    fn execute(&mut self, action: &Action) -> Result<u64, ApiError> {
        match action {
            Action::Create { resource, namespace, object } => self.create(resource, namespace, object.clone()),
            Action::Patch { resource, namespace, name: named, patch, uid, resource_version, subresource } => {
                let name = name(resource, namespace, named);
                self.precondition(&name, uid.as_ref(), resource_version.as_ref())?;
                self.patch(&name, patch, *subresource)
            }
            Action::Delete { resource, namespace, name: named, uid, resource_version, grace, propagation } => {
                let name = name(resource, namespace, named);
                self.precondition(&name, uid.as_ref(), resource_version.as_ref())?;
                if *propagation == Some(Propagation::Foreground) {
                    self.patch(&name, &json!({"metadata": {"finalizers": ["foregroundDeletion"]}}), None)?;
                }
                self.delete(&name, *grace)
            }
            Action::DeleteCollection { resource, namespace } => {
                let names: Vec<Name> =
                    self.objects.keys().filter(|n| n.0 == *resource && n.1 == *namespace).cloned().collect();
                names.iter().for_each(|name| {
                    self.remove(name);
                });
                Ok(self.revision)
            }
            Action::Bind { namespace, pod, uid, node } => {
                let name = name("pods", namespace, pod);
                self.precondition(&name, Some(uid), None)?;
                self.patch(&name, &json!({"spec": {"nodeName": node}}), None)
            }
            other => panic!("not for the server: {other:?}"),
        }
    }
}

/// Being deleted, and nobody holds it.
fn finished(resource: &str, object: &Value) -> bool {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_null() || !metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
        return false;
    }
    match resource {
        "namespaces" => object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty),
        "pods" => false,
        _ => true,
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("made one");
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

impl Api for Fake {
    fn kinds(&self) -> Vec<Kind> {
        KINDS
            .iter()
            .map(|(resource, api_version, kind, namespaced)| Kind {
                resource: (*resource).to_owned(),
                api_version: (*api_version).to_owned(),
                kind: (*kind).to_owned(),
                namespaced: *namespaced,
            })
            .collect()
    }

    fn list(&self, resource: &str) -> (u64, Vec<Arc<[u8]>>) {
        let state = self.lock();
        (state.revision, state.of(resource).map(|object| object.to_string().into_bytes().into()).collect())
    }

    fn watch(&self, resources: &[&str], from: u64) -> Receiver<WatchEvent> {
        assert!(!resources.contains(&"events"), "events are not watched");
        let (sender, receiver) = channel();
        let mut state = self.lock();
        for event in &state.log {
            if matches!(event, WatchEvent::Change { revision, .. } if *revision > from) {
                sender.send(event.clone()).expect("the receiver is here");
            }
        }
        sender.send(WatchEvent::Progress { revision: state.revision }).expect("the receiver is here");
        state.watchers.push(sender);
        receiver
    }

    fn execute(&self, _: &str, action: &Action) -> Result<u64, ApiError> {
        let mut state = self.lock();
        state.writes += 1;
        match state.writes % 20 {
            7 => return Err(error(409, "Conflict")),
            // Fails after it was done, as a lost answer does.
            17 => {
                let _done = state.execute(action);
                return Err(error(500, "InternalError"));
            }
            _ => {}
        }
        state.execute(action)
    }
}

/// Makes bound pods run, and ends those that are deleted.
pub(crate) fn kubelet(api: Arc<Fake>, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut address = 0;
        while !stop.load(Ordering::Relaxed) {
            for pod in api.all("pods") {
                let metadata = &pod["metadata"];
                let name =
                    name("pods", metadata["namespace"].as_str().unwrap_or(""), metadata["name"].as_str().unwrap_or(""));
                let mut state = api.lock();
                if !pod["spec"]["nodeName"].is_string() || !state.objects.contains_key(&name) {
                    continue;
                }
                if !metadata["deletionTimestamp"].is_null() {
                    state.remove(&name);
                } else if !runs(&pod) {
                    address += 1;
                    let ip = format!("10.244.{}.{}", address / 250, address % 250 + 1);
                    let now = jiff::Timestamp::now().to_string();
                    let status = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]});
                    state.patch(&name, &json!({"status": status}), Some("status")).expect("the pod is there");
                }
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    })
}
