//! Records events as client-go's correlator does: the same event again only raises the count of the object that is there,
//! and an object that makes too many is throttled. Events are best effort: a failure is logged, never retried.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Api, Shared};
use crate::{
    action::{Action, Event, Involved},
    resource,
    view::rfc3339,
};

/// Remembered events and subjects; the oldest are forgotten beyond it (client-go's LRU size).
const MEMORY: usize = 4096;
/// Events of one component about one object at once, and seconds until one more is allowed.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// Events that wait to be written, at most; more are dropped, as client-go's broadcaster does.
const WAITING: usize = 1000;

/// Takes events from the workers, so that no reconcile waits for one to be written.
#[derive(Debug, Default)]
pub(super) struct Sender {
    waiting: Mutex<VecDeque<(&'static str, Event)>>,
    came: Condvar,
}

impl Sender {
    pub(super) fn send(&self, controller: &'static str, event: Event) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING {
            waiting.push_back((controller, event));
            self.came.notify_one();
        }
    }

    fn receive(&self, patience: Duration) -> Option<(&'static str, Event)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = |waiting: &mut VecDeque<_>| waiting.is_empty();
        let (mut waiting, _) =
            self.came.wait_timeout_while(waiting, patience, empty).unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    }
}

/// Writes events until the stop.
pub(super) fn run(shared: &Shared) {
    let recorder = Recorder::default();
    while !shared.stopped() {
        if let Some((controller, event)) = shared.events.receive(Duration::from_millis(200)) {
            recorder.record(&*shared.api, controller, &event, Timestamp::now());
        }
    }
}

/// What makes two events the same.
type Same = (&'static str, Involved, bool, &'static str, String);

#[derive(Debug)]
struct Seen {
    name: String,
    count: u64,
    last: Timestamp,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Debug, Default)]
struct Memory {
    seen: HashMap<Same, Seen>,
    buckets: HashMap<(&'static str, String), Bucket>,
    number: u64,
}

/// Records events and remembers them.
#[derive(Debug, Default)]
struct Recorder(Mutex<Memory>);

impl Recorder {
    fn record(&self, api: &dyn Api, controller: &str, event: &Event, now: Timestamp) {
        let Some(write) = self.plan(event, now) else { return };
        let mut result = api.execute(controller, &write);
        if matches!(&result, Err(error) if error.code == 404) && matches!(write, Action::Patch { .. }) {
            // It has expired on the server: begin anew.
            self.lock().seen.remove(&same(event));
            if let Some(create) = self.plan(event, now) {
                result = api.execute(controller, &create);
            }
        }
        if let Err(error) = result {
            tracing::debug!(reason = event.reason, object = event.involved.name, %error, "an event was not recorded");
        }
    }

    /// A create for a new event, a patch of the count for a known one, nothing if throttled.
    fn plan(&self, event: &Event, now: Timestamp) -> Option<Action> {
        let mut memory = self.lock();
        if !memory.allowed(event, now) {
            return None;
        }
        let namespace = namespace(&event.involved);
        if let Some(seen) = memory.seen.get_mut(&same(event)) {
            seen.count += 1;
            seen.last = now;
            return Some(Action::Patch {
                resource: resource::EVENTS.into(),
                namespace,
                name: seen.name.clone(),
                subresource: None,
                patch: json!({ "count": seen.count, "lastTimestamp": rfc3339(now) }),
                uid: None,
                resource_version: None,
            });
        }
        memory.number += 1;
        let number = u64::try_from(now.as_nanosecond()).unwrap_or(0) + memory.number;
        let name = format!("{}.{number:x}", event.involved.name);
        if memory.seen.len() >= MEMORY {
            memory.forget_half();
        }
        memory.seen.insert(same(event), Seen { name: name.clone(), count: 1, last: now });
        let object = object(event, &namespace, &name, now);
        Some(Action::Create { resource: resource::EVENTS.into(), namespace, object })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn allowed(&mut self, event: &Event, now: Timestamp) -> bool {
        if self.buckets.len() >= MEMORY {
            self.buckets.clear();
        }
        let key = (event.component, event.involved.uid.clone());
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: now });
        let passed = (now.as_millisecond() - bucket.at.as_millisecond()).max(0);
        bucket.tokens = (bucket.tokens + f64_of(passed) / 1000.0 / REFILL_SECONDS).min(BURST);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    fn forget_half(&mut self) {
        let mut times: Vec<Timestamp> = self.seen.values().map(|seen| seen.last).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        self.seen.retain(|_, seen| seen.last > middle);
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the last event of an object are far below 2^52")]
fn f64_of(milliseconds: i64) -> f64 {
    milliseconds as f64
}

fn same(event: &Event) -> Same {
    let mut involved = event.involved.clone();
    involved.resource_version.clear();
    (event.component, involved, event.warning, event.reason, event.message.clone())
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(involved: &Involved) -> String {
    if involved.namespace.is_empty() { "default".to_owned() } else { involved.namespace.clone() }
}

fn object(event: &Event, namespace: &str, name: &str, now: Timestamp) -> Value {
    let involved = &event.involved;
    let mut reference = json!({
        "apiVersion": involved.api_version,
        "kind": involved.kind,
        "name": involved.name,
        "uid": involved.uid,
        "resourceVersion": involved.resource_version,
    });
    if !involved.namespace.is_empty() {
        reference["namespace"] = involved.namespace.as_str().into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": reference,
        "reason": event.reason,
        "message": event.message.chars().take(1024).collect::<String>(),
        "source": { "component": event.component },
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "count": 1,
        "type": event.type_(),
        "eventTime": null,
        "reportingComponent": event.component,
        "reportingInstance": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, revision: &str) -> Event {
        let involved = Involved {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "ns".to_owned(),
            name: "p".to_owned(),
            uid: "u".to_owned(),
            resource_version: revision.to_owned(),
        };
        Event {
            involved,
            warning: true,
            reason: "FailedScheduling",
            message: message.to_owned(),
            component: "default-scheduler",
        }
    }

    #[test]
    fn the_same_event_is_counted() {
        let recorder = Recorder::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!(matches!(recorder.plan(&event("a", "1"), now), Some(Action::Create { .. })));
        let Some(Action::Patch { patch, .. }) = recorder.plan(&event("a", "2"), now) else { panic!("a patch") };
        assert_eq!(patch["count"], 2);
        assert!(matches!(recorder.plan(&event("b", "2"), now), Some(Action::Create { .. })));
    }

    #[test]
    fn a_noisy_object_is_throttled() {
        let recorder = Recorder::default();
        let now = Timestamp::UNIX_EPOCH;
        let written = (0..40).filter(|_| recorder.plan(&event("a", "1"), now).is_some()).count();
        assert_eq!(written, 25);
        let later = Timestamp::from_second(301).unwrap();
        assert!(recorder.plan(&event("a", "1"), later).is_some());
    }
}
