//! Counters of requests, and the size of each resource, in Prometheus' text.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::place::Place;
use crate::storage::cache::Cache;

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    verb: &'static str,
    resource: &'static str,
}

impl Label {
    /// Only names that the schema knows: a client must not be able to make new ones.
    pub(super) fn of(place: &Place) -> Self {
        let row = api::schema::row(&place.group, &place.version, &place.resource);
        Self { verb: place.verb, resource: row.map_or("", |row| row.resource) }
    }
}

#[derive(Default)]
struct Counter {
    requests: u64,
    seconds: f64,
}

/// The counters.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(Label, u16), Counter>>,
}

impl Metrics {
    pub(super) fn count(&self, label: Label, code: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = requests.entry((label, code)).or_default();
        counter.requests += 1;
        counter.seconds += time.as_secs_f64();
    }

    pub(super) fn text(&self, cache: &Cache) -> String {
        let mut out = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        out.push_str("# TYPE apiserver_request_total counter\n# TYPE apiserver_request_duration_seconds_sum counter\n");
        for ((label, code), counter) in requests.iter() {
            let labels =
                format!("verb=\"{}\",resource=\"{}\",code=\"{code}\"", label.verb.to_uppercase(), label.resource);
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "apiserver_request_total{{{labels}}} {}", counter.requests);
            let _infallible =
                writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {:.6}", counter.seconds);
        }
        out.push_str("# TYPE apiserver_storage_objects gauge\n");
        for (table, count) in cache.sizes() {
            let _infallible = writeln!(out, "apiserver_storage_objects{{resource=\"{table}\"}} {count}");
        }
        let _infallible = writeln!(out, "# TYPE weft_store_revision gauge\nweft_store_revision {}", cache.applied());
        out
    }
}
