//! watch: a cursor in a resource's ring, and what it sends to one client.
//!
//! The client's own pace decides: nothing is buffered for it. When its place has left the ring it is told so (410) and
//! lists again. A selected object that stops being selected is deleted for the client, and the other way round.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::read::{Item, ListOptions, Selection, expired, parse_revision, selectable};
use super::view::{self, View};
use super::{Registry, Target};
use crate::serve;
use crate::storage::cache::{Cache, Event, Table};

/// As upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A last bookmark comes so long before the end.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Events taken from the ring at once.
const BATCH: usize = 64;
/// Objects of the initial state sent at once.
const INITIAL_BATCH: usize = 256;

/// The options that only a watch has.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub initial_events: Option<bool>,
    /// When it ends.
    pub timeout: Duration,
    /// How objects are sent.
    pub view: View,
}

/// A watch in progress.
pub struct Watch {
    cache: Arc<Cache>,
    table: Arc<Table>,
    changed: watch::Receiver<u64>,
    row: &'static api::schema::Row,
    namespace: String,
    selection: Selection,
    options: WatchOptions,
    initial: VecDeque<Item>,
    /// A bookmark with the annotation is due after the initial state.
    announce: bool,
    cursor: u64,
    headers_due: bool,
    end: Instant,
    next_bookmark: Instant,
    over: bool,
}

impl Registry {
    /// Starts a watch.
    ///
    /// # Errors
    /// 400, 410 and 422 that are known before the first event.
    pub async fn watch(&self, target: &Target<'_>, list: &ListOptions, options: WatchOptions) -> Result<Watch, Status> {
        check_options(list, &options)?;
        self.reach(&list.revision).await?;
        let table = self.cache.table(target.row.storage_key);
        let from_now = matches!(list.revision.as_str(), "" | "0");
        let wants_state = options.initial_events.unwrap_or(from_now);
        let changed = table.subscribe();
        let (initial, cursor) = if wants_state {
            let all = ListOptions { limit: 0, revision: "0".to_owned(), revision_match: String::new(), ..list.clone() };
            let page = self.list(target, &all).await?;
            (page.items.into(), page.revision)
        } else if from_now {
            (VecDeque::new(), self.cache.snapshot(target.row.storage_key).revision)
        } else {
            (VecDeque::new(), parse_revision(&list.revision)?)
        };
        table.events(cursor, 0).map_err(|_gone| too_old(cursor))?;
        let now = Instant::now();
        Ok(Watch {
            cache: Arc::clone(&self.cache),
            table,
            changed,
            row: target.row,
            namespace: target.namespace.to_owned(),
            selection: list.selection.clone(),
            options,
            initial,
            announce: options.initial_events == Some(true),
            cursor,
            headers_due: true,
            end: now + options.timeout,
            next_bookmark: now + BOOKMARK_EVERY.min(options.timeout.saturating_sub(BOOKMARK_BEFORE_END)),
            over: false,
        })
    }
}

fn too_old(cursor: u64) -> Status {
    let mut status = expired();
    status.message = format!("too old resource version: {cursor}");
    status
}

fn check_options(list: &ListOptions, options: &WatchOptions) -> Result<(), Status> {
    let invalid = |field: &str, text: &str| {
        let error = api::status::FieldError::forbidden(field, text);
        Err(Status::invalid(("meta.k8s.io", "ListOptions"), "", vec![error]))
    };
    match (options.initial_events, list.revision_match.as_str()) {
        (Some(_), "NotOlderThan") if !options.bookmarks => {
            invalid("allowWatchBookmarks", "allowWatchBookmarks must be set when sendInitialEvents is set")
        }
        (Some(_), "NotOlderThan") | (None, "") => Ok(()),
        (Some(_), _) => {
            invalid("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
        }
        (None, _) => invalid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    }
}

impl Watch {
    /// The next frames; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.over {
                return None;
            }
            if let Some(frames) = self.initial_frames() {
                return Some(frames);
            }
            self.changed.borrow_and_update();
            let applied = self.cache.applied(); // Before the ring: it then holds all up to here.
            let events = match self.table.events(self.cursor, BATCH) {
                Ok(events) => events,
                Err(_gone) => {
                    self.over = true;
                    return Some(frame("ERROR", &too_old(self.cursor).to_value()));
                }
            };
            if let Some(last) = events.last() {
                self.cursor = last.revision;
                let frames: Vec<u8> = events.iter().flat_map(|event| self.event(event)).flatten().collect();
                if !frames.is_empty() {
                    return Some(frames.into());
                }
                continue;
            }
            self.cursor = self.cursor.max(applied);
            tokio::select! {
                changed = self.changed.changed() => self.over = changed.is_err(),
                () = tokio::time::sleep_until(self.next_bookmark), if self.options.bookmarks => {
                    return Some(self.bookmark(false));
                }
                () = tokio::time::sleep_until(self.end) => self.over = true,
            }
        }
    }

    fn initial_frames(&mut self) -> Option<Bytes> {
        if self.initial.is_empty() {
            let announce = std::mem::replace(&mut self.announce, false);
            return announce.then(|| self.bookmark(true));
        }
        let count = self.initial.len().min(INITIAL_BATCH);
        let items: Vec<Item> = self.initial.drain(..count).collect();
        let mut frames = Vec::new();
        for item in items {
            let entry = &item.entry;
            frames.extend(self.frame("ADDED", &entry.value, entry.revision, None));
        }
        Some(frames.into())
    }

    /// The frame of an event, if the client is to see it.
    fn event(&mut self, event: &Event) -> Option<Vec<u8>> {
        if !self.namespace.is_empty() {
            let inside = event.path.strip_prefix(self.namespace.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if !inside {
                return None;
            }
        }
        let (now, before) = self.selected(event);
        let kind = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        // What leaves is shown as it was, at the revision at which it left.
        let entry = if now { event.object.as_ref() } else { event.previous.as_ref() }?;
        Some(self.frame(kind, &entry.value, event.revision, Some(event).filter(|_| now)))
    }

    fn selected(&self, event: &Event) -> (bool, bool) {
        if self.selection.is_everything() {
            return (event.object.is_some(), event.previous.is_some());
        }
        let (now, before) =
            event.selectable.get_or_init(|| (selectable(event.object.as_ref()), selectable(event.previous.as_ref())));
        let matches = |side: &Option<Value>| side.as_ref().is_some_and(|object| self.selection.matches(object));
        (matches(now), matches(before))
    }

    /// `shared` is the event whose bytes other watchers get too.
    fn frame(&mut self, kind: &str, stored: &[u8], revision: u64, shared: Option<&Event>) -> Vec<u8> {
        let native = self.row.storage == (self.row.group, self.row.version);
        if self.options.view == View::Object && native {
            return match shared {
                Some(event) => raw_frame(kind, event.served.get_or_init(|| serve::object(stored, revision).into())),
                None => raw_frame(kind, &serve::object(stored, revision)),
            };
        }
        let value = view::value(self.row, stored, revision);
        let headers = std::mem::replace(&mut self.headers_due, false);
        frame(kind, &view::shape(self.options.view, self.row, value, headers)).to_vec()
    }

    fn bookmark(&mut self, initial_end: bool) -> Bytes {
        let before_end = self.end - BOOKMARK_BEFORE_END;
        let next = Instant::now() + BOOKMARK_EVERY;
        let last_due = self.next_bookmark < before_end && next > before_end;
        if !initial_end {
            self.next_bookmark = if last_due { before_end } else { next };
        }
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": self.row.kind, "apiVersion": self.row.api_version(), "metadata": metadata});
        let object = match self.options.view {
            View::Object => object,
            View::Table { version, .. } => {
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
            View::Metadata { .. } => view::shape(self.options.view, self.row, object, false),
        };
        frame("BOOKMARK", &object)
    }
}

fn frame(kind: &str, object: &Value) -> Bytes {
    raw_frame(kind, object.to_string().as_bytes()).into()
}

fn raw_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"].concat()
}
