//! What clients were shown: lists, and watches that resume where their server died.
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::writer::Acknowledged;
use crate::client::Client;

pub(super) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const IN_TIME: Duration = Duration::from_secs(20);

/// An object, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) revision: u64,
    pub(super) content: String,
    odd: bool,
}

pub(super) type Objects = BTreeMap<String, Object>;

impl Object {
    pub(super) fn of(value: &Value) -> Self {
        Self {
            revision: revision(value),
            content: value["data"]["content"].as_str().unwrap_or_default().to_owned(),
            odd: value["metadata"]["labels"]["parity"] == "odd",
        }
    }
}

fn revision(value: &Value) -> u64 {
    let text = value["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no resourceVersion in {value}"))
}

fn name(value: &Value) -> &str {
    value["metadata"]["name"].as_str().unwrap_or_default()
}

pub(super) struct List {
    pub(super) revision: u64,
    pub(super) objects: Objects,
}

/// The writers' objects. The root certificate that lies beside them is none.
pub(super) async fn list(client: &Client, query: &str) -> List {
    let body = client.get(&format!("{MAPS}?{query}")).await.expect(200);
    let items = body["items"].as_array().expect("items").iter();
    let objects = items.filter(|item| is_ours(item)).map(|item| (name(item).to_owned(), Object::of(item))).collect();
    List { revision: revision(&body), objects }
}

fn is_ours(value: &Value) -> bool {
    name(value).starts_with('m')
}

/// One event.
struct Event {
    revision: u64,
    name: String,
    /// `None` is a deletion.
    object: Option<Object>,
}

/// A client that watches, across servers.
pub(super) struct Watcher {
    /// Empty, or what it selects.
    selector: &'static str,
    /// The newest revision that it saw: it resumes there.
    pub(super) seen: u64,
    begun: bool,
    events: Vec<Event>,
    /// What the events so far add up to.
    state: Objects,
}

impl Watcher {
    /// One that sees everything, and one that sees objects come and go as their labels change.
    pub(super) fn all() -> Vec<Self> {
        let watcher = |selector| Self { selector, seen: 0, begun: false, events: Vec::new(), state: BTreeMap::new() };
        vec![watcher(""), watcher("parity=odd")]
    }

    /// Where its history begins.
    pub(super) fn begin_at(&mut self, revision: u64) {
        if !self.begun {
            self.begun = true;
            self.seen = revision;
        }
    }

    fn path(&self) -> String {
        let selector = self.selector.replace('=', "%3D");
        format!("{MAPS}?watch=1&resourceVersion={}&labelSelector={selector}", self.seen)
    }

    /// Watches until the server goes away.
    pub(super) async fn run(mut self, client: Client) -> Self {
        let Ok(session) = client.session().await else { return self };
        let Ok(answer) = session.watch(&self.path()).await else { return self };
        let mut events = answer.unwrap_or_else(|refusal| panic!("a watch was refused: {}", refusal.body));
        while let Ok((kind, object)) = events.try_next().await {
            self.take(&kind, &object);
        }
        self
    }

    /// Watches up to the newest event that there must be.
    pub(super) async fn catch_up(&mut self, client: &Client, newest: u64) {
        let selected = list(client, &format!("labelSelector={}", self.selector.replace('=', "%3D"))).await;
        let last = selected.objects.values().map(|object| object.revision).max().unwrap_or(0);
        let caught_up = |watcher: &Self| watcher.seen >= last && watcher.state == selected.objects;
        let mut events = client.watch(&self.path()).await;
        while !caught_up(self) {
            let next = tokio::time::timeout(IN_TIME, events.try_next()).await;
            let Ok(Ok((kind, object))) = next else {
                panic!("watch {:?}: no more events after {}, the list is at {newest}", self.selector, self.seen);
            };
            self.take(&kind, &object);
        }
    }

    #[track_caller]
    fn take(&mut self, kind: &str, object: &Value) {
        assert_ne!(kind, "ERROR", "{object}");
        let (found, name) = (Object::of(object), name(object).to_owned());
        assert!(found.revision > self.seen, "{kind} {name} at {} after {}", found.revision, self.seen);
        self.seen = found.revision;
        if !is_ours(object) {
            return;
        }
        let known = self.state.contains_key(&name);
        assert_eq!(known, kind != "ADDED", "{kind} {name} at {}", found.revision);
        let object = (kind != "DELETED").then_some(found);
        match &object {
            Some(object) => drop(self.state.insert(name.clone(), object.clone())),
            None => drop(self.state.remove(&name)),
        }
        self.events.push(Event { revision: self.seen, name, object });
    }

    /// What it was shown adds up to the list.
    #[track_caller]
    pub(super) fn holds(&self, list: &List) {
        let mut expected = list.objects.clone();
        expected.retain(|_, object| self.selector.is_empty() || object.odd);
        assert_eq!(self.state, expected, "watch {:?} against the list at {}", self.selector, list.revision);
    }

    /// It was shown every write that was acknowledged, once.
    #[track_caller]
    pub(super) fn tells(&self, acknowledged: &[Acknowledged]) {
        for (revision, name, content) in acknowledged {
            let found = self.events.binary_search_by_key(revision, |event| event.revision).map(|at| &self.events[at]);
            match found {
                Ok(event) => {
                    assert_eq!(&event.name, name, "at {revision}");
                    let shown = event.object.as_ref().map(|object| object.content.clone());
                    assert!(shown.is_none() || shown == *content, "{name} at {revision}: {shown:?}");
                    assert!(shown.is_some() || !self.selector.is_empty(), "{name} at {revision} was no deletion");
                }
                Err(_) => assert!(!self.selector.is_empty(), "{name} at {revision} was never shown"),
            }
        }
    }

    /// A revision in the middle of what it saw.
    pub(super) fn some_revision(&self) -> Option<u64> {
        self.events.get(self.events.len() * 2 / 3).map(|event| event.revision)
    }

    /// The objects as they were.
    pub(super) fn state_at(&self, revision: u64) -> Objects {
        let mut state = Objects::new();
        for event in self.events.iter().take_while(|event| event.revision <= revision) {
            match &event.object {
                Some(object) => drop(state.insert(event.name.clone(), object.clone())),
                None => drop(state.remove(&event.name)),
            }
        }
        state
    }
}
