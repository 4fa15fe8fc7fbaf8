//! The backend: a list of entries in memory. Every replica has its own, and says who it is.
use std::{collections::VecDeque, future::Future, pin::Pin, sync::Mutex};

use hyper::{Method, StatusCode};

use crate::{
    Place,
    serve::{self, Answer, App, Asked},
};

/// Entries kept; the oldest goes first.
const KEPT: usize = 50;
/// Characters kept of an entry.
const LONGEST: usize = 280;

/// What the backend answers.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Entries {
    /// Who answered.
    #[serde(flatten)]
    pub(crate) place: Place,
    /// The address that the request came from, as this pod saw it.
    pub(crate) client: String,
    /// Newest first.
    pub(crate) entries: Vec<String>,
}

pub(crate) struct Backend {
    place: Place,
    entries: Mutex<VecDeque<String>>,
}

impl Backend {
    pub(crate) fn new(place: Place) -> Backend {
        Backend { place, entries: Mutex::new(VecDeque::new()) }
    }

    fn respond(&self, asked: &Asked) -> Answer {
        match (asked.path.as_str(), &asked.method) {
            ("/entries", &Method::GET) => {}
            ("/entries", &Method::POST) => self.add(&String::from_utf8_lossy(&asked.body)),
            ("/entries", _) => return serve::answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or POST\n"),
            _ => return serve::answer(StatusCode::NOT_FOUND, "text/plain", "only /entries is here\n"),
        }
        let entries = Entries {
            place: self.place.clone(),
            client: asked.client.ip().to_canonical().to_string(),
            entries: self.entries.lock().expect("no holder panics").iter().cloned().collect(),
        };
        let body = serde_json::to_vec(&entries).expect("strings always serialise");
        serve::answer(StatusCode::OK, "application/json", body)
    }

    fn add(&self, text: &str) {
        let entry: String = text.trim().chars().take(LONGEST).collect();
        if entry.is_empty() {
            return;
        }
        let mut entries = self.entries.lock().expect("no holder panics");
        entries.push_front(entry);
        entries.truncate(KEPT);
    }
}

impl App for Backend {
    fn answer(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move { self.respond(&asked) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_and_cuts_the_long() {
        let backend = Backend::new(Place { pod: "p".into(), node: "n".into() });
        for number in 0..KEPT + 5 {
            backend.add(&format!("entry {number}"));
        }
        backend.add("  ");
        backend.add(&"x".repeat(LONGEST + 1));
        let entries = backend.entries.lock().unwrap();
        assert_eq!(entries.len(), KEPT);
        assert_eq!(entries[0].len(), LONGEST);
        assert_eq!(entries[1], format!("entry {}", KEPT + 4));
    }
}
