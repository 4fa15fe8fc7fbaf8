//! A client that writes objects of its own, and knows what it was told about each.
use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::history::{MAPS, Object, Objects};
use crate::client::{Client, Session};

/// Objects per writer: few, so that each is written often.
const NAMES: u32 = 12;

/// What was acknowledged: a revision, the object, and its content; `None` is a deletion.
pub(super) type Acknowledged = (u64, String, Option<String>);

pub(super) struct Writer {
    number: u32,
    random: StdRng,
    serial: u64,
    /// The state that was acknowledged last.
    objects: Objects,
    /// What was asked and not answered: the object and its content afterwards.
    pending: Option<(String, Option<String>)>,
    pub(super) acknowledged: Vec<Acknowledged>,
}

/// A request and what the object holds afterwards.
struct Step {
    method: &'static str,
    body: Option<Value>,
    after: Option<String>,
}

impl Writer {
    pub(super) fn new(number: u32, random: StdRng) -> Self {
        Self { number, random, serial: 0, objects: BTreeMap::new(), pending: None, acknowledged: Vec::new() }
    }

    /// The newest revision that it was told.
    pub(super) fn seen(&self) -> u64 {
        self.acknowledged.last().map_or(0, |(revision, ..)| *revision)
    }

    /// Writes until the server goes away.
    pub(super) async fn run(mut self, client: Client) -> Self {
        let Ok(mut session) = client.session().await else { return self };
        while self.write(&mut session).await {}
        self
    }

    /// One write; false when it was not answered.
    async fn write(&mut self, session: &mut Session) -> bool {
        let name = format!("m{}-{}", self.number, self.random.random_range(0..NAMES));
        let step = self.step(&name);
        let path = if step.method == "POST" { MAPS.to_owned() } else { format!("{MAPS}/{name}") };
        self.pending = Some((name.clone(), step.after.clone()));
        let Ok(answer) = session.ask(step.method, &path, step.body.as_ref()).await else { return false };
        assert!(answer.code < 300, "{} {path}: {}", step.method, answer.body);
        self.pending = None;
        let Some(content) = step.after else {
            // A deletion's answer names no revision: the watchers know it.
            self.objects.remove(&name);
            return true;
        };
        let object = Object::of(&answer.body);
        assert_eq!(object.content, content, "the answer is the object as it was written");
        assert!(object.revision > self.seen(), "revisions grow");
        self.acknowledged.push((object.revision, name.clone(), Some(content)));
        self.objects.insert(name, object);
        true
    }

    fn step(&mut self, name: &str) -> Step {
        self.serial += 1;
        let content = format!("{}-{}", self.number, self.serial);
        let metadata =
            json!({"name": name, "labels": {"parity": if self.serial.is_multiple_of(2) { "even" } else { "odd" }}});
        let body = json!({"metadata": metadata, "data": {"content": content}});
        let Some(held) = self.objects.get(name) else {
            return Step { method: "POST", body: Some(body), after: Some(content) };
        };
        match self.random.random_range(0..10) {
            0..2 => Step { method: "DELETE", body: None, after: None },
            2..6 => Step { method: "PATCH", body: Some(body), after: Some(content) },
            _ => {
                let mut body = body;
                body["metadata"]["resourceVersion"] = json!(held.revision.to_string());
                Step { method: "PUT", body: Some(body), after: Some(content) }
            }
        }
    }

    /// Holds what it was told against what is there; what was not answered may have happened or not.
    #[track_caller]
    pub(super) fn settle(&mut self, found: &Objects) {
        let prefix = format!("m{}-", self.number);
        let mut mine: Objects = found.clone();
        mine.retain(|name, _| name.starts_with(&prefix));
        if let Some((name, after)) = self.pending.take() {
            let content = mine.get(&name).map(|object| object.content.clone());
            let happened = content == after;
            match mine.get(&name) {
                Some(object) if happened => drop(self.objects.insert(name, object.clone())),
                None if happened => drop(self.objects.remove(&name)),
                _ => {}
            }
        }
        assert_eq!(mine, self.objects, "writer {} was told otherwise", self.number);
    }
}
