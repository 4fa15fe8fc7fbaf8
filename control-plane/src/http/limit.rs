//! How many requests are worked on at once: a flood is refused, so that the server goes on.
//!
//! As upstream without priorities: reads and writes apart; watches and other long answers, health checks and the
//! cluster's masters are never refused. Pure but for the two counters.
use api::status::Status;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::place::Place;
use crate::authn::{MASTERS, User};

/// Upstream's `--max-requests-inflight`.
const READS: usize = 400;
/// Upstream's `--max-mutating-requests-inflight`.
const WRITES: usize = 200;
/// Seconds after which a refused client may come again, as upstream.
const RETRY_AFTER: u32 = 1;
/// Subresources whose answer takes as long as the client wants.
const LONG: &[&str] = &["attach", "exec", "log", "portforward", "proxy"];

/// Requests that are being answered.
pub(super) struct Limits {
    reads: Semaphore,
    writes: Semaphore,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(READS, WRITES)
    }
}

impl Limits {
    fn new(reads: usize, writes: usize) -> Self {
        Self { reads: Semaphore::new(reads), writes: Semaphore::new(writes) }
    }

    /// A place among those that are worked on, to be given back when the answer is there; `None` is one that does not
    /// count.
    ///
    /// # Errors
    /// 429 when all are taken.
    pub(super) fn admit(&self, place: &Place, user: &User) -> Result<Option<SemaphorePermit<'_>>, Status> {
        if place.verb == "watch" || LONG.contains(&place.subresource.as_str()) || is_health(place) {
            return Ok(None);
        }
        let reads = matches!(place.verb, "get" | "list" | "head" | "options");
        let taken = if reads { &self.reads } else { &self.writes }.try_acquire();
        match taken {
            Ok(permit) => Ok(Some(permit)),
            Err(_full) if user.groups.iter().any(|group| group == MASTERS) => Ok(None),
            Err(_full) => Err(Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER)),
        }
    }
}

fn is_health(place: &Place) -> bool {
    !place.is_resource && ["/healthz", "/livez", "/readyz"].iter().any(|path| place.path.starts_with(path))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::query::Query;
    use super::{Limits, MASTERS, Place, User};

    #[track_caller]
    fn check(limits: &Limits, request: &str, groups: &[&str], admitted: bool) {
        let (method, url) = request.split_once(' ').expect("a method and a path");
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let place = Place::parse(&method.parse::<Method>().expect("a method"), path, &Query::parse(query));
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        let user = User { name: "u".to_owned(), groups, ..User::default() };
        let refusal = limits.admit(&place, &user).err();
        assert_eq!(refusal.as_ref().map(|status| status.code), (!admitted).then_some(429), "{request}");
        let seconds = refusal.and_then(|status| status.details).map(|details| details.retry_after_seconds);
        assert_eq!(seconds, (!admitted).then_some(1), "{request}");
    }

    #[test]
    fn reads_and_writes_are_counted_apart() {
        let pods = "/api/v1/namespaces/a/pods";
        let no_writes = Limits::new(1, 0);
        check(&no_writes, &format!("POST {pods}"), &[], false);
        check(&no_writes, &format!("DELETE {pods}/b"), &[], false);
        check(&no_writes, &format!("GET {pods}"), &[], true);
        check(&no_writes, &format!("GET {pods}/b"), &[], true); // What is done gives its place back.
        let no_reads = Limits::new(0, 1);
        check(&no_reads, &format!("GET {pods}"), &[], false);
        check(&no_reads, "GET /apis", &[], false);
        check(&no_reads, &format!("PATCH {pods}/b"), &[], true);
    }

    #[test]
    fn some_are_never_refused() {
        let full = Limits::new(0, 0);
        for request in ["GET /api/v1/pods?watch=1", "GET /readyz", "GET /livez?verbose", "GET /healthz"] {
            check(&full, request, &[], true);
        }
        check(&full, "GET /api/v1/namespaces/a/pods/b/log?follow=true", &[], true);
        check(&full, "POST /api/v1/namespaces/a/pods/b/exec", &[], true);
        check(&full, "POST /api/v1/namespaces/a/pods", &[MASTERS], true);
        check(&full, "GET /api/v1/nodes", &["system:nodes"], false);
    }
}
