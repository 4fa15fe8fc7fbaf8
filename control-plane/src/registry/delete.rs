//! delete and deletecollection: preconditions, grace, finalizers, propagation.
use api::path;
use api::schema::Row;
use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};

use super::read::ListOptions;
use super::{Outcome, Preconditions, Registry, Target, failed, metadata};
use crate::storage::{Error, Expect};
use crate::{admission, serve};

/// What happens to an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// What must hold of the object.
    pub preconditions: Preconditions,
    /// Seconds; `None` is the kind's own.
    pub grace: Option<i64>,
    /// `None` is the kind's own, or what the object's finalizers say.
    pub propagation: Option<Propagation>,
    /// Check only.
    pub dry_run: bool,
}

/// What to do about an object that shall go.
enum Step {
    /// Remove it.
    Remove,
    /// It is already going: nothing changes.
    Wait,
    /// It stays for now, marked.
    Mark(Value),
}

impl Registry {
    /// Deletes an object, or marks it if something holds it.
    ///
    /// # Errors
    /// Any refusal.
    pub async fn delete(&self, target: &Target<'_>, options: &DeleteOptions) -> Result<Outcome, Status> {
        let row = target.row.storage_row();
        admission::delete(self, target)?;
        loop {
            let mut allocation = self.allocators.begin(row, &target.path()).await;
            let entry = self.entry(target)?;
            let old = serve::parse(&entry.value, entry.revision);
            options.preconditions.check(target, &old)?;
            let unchanged = || Outcome {
                value: entry.value.clone(),
                revision: Some(entry.revision),
                deleted: false,
                created: false,
            };
            let expect = Expect::Revision(entry.revision);
            let written = match step(row, &old, options) {
                Step::Wait => return Ok(unchanged()),
                Step::Remove if options.dry_run => return Ok(Outcome { deleted: true, ..unchanged() }),
                Step::Remove => self.cache.delete(target.key(), expect).await.map(|revision| {
                    if let Some(allocation) = &mut allocation {
                        allocation.commit(None);
                    }
                    Outcome { revision: Some(revision), deleted: true, ..unchanged() }
                }),
                Step::Mark(new) => {
                    let value = Bytes::from(serve::to_stored(&new));
                    if options.dry_run {
                        return Ok(Outcome { value, ..unchanged() });
                    }
                    let put = self.cache.put(target.key(), value.clone(), expect, self.ttl(row)).await;
                    put.map(|revision| Outcome { value, revision: Some(revision), ..unchanged() })
                }
            };
            match written {
                Ok(outcome) => return Ok(outcome),
                Err(Error::Mismatch { .. }) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Deletes what a list with these options would show; what was deleted or marked.
    ///
    /// # Errors
    /// Any refusal but that an object is gone already.
    pub async fn delete_collection(
        &self,
        target: &Target<'_>,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Outcome>, Status> {
        let mut outcomes = Vec::new();
        for item in self.list(target, list).await?.items {
            let (namespace, name) = item.path.split_once('/').unwrap_or(("", &item.path));
            match self.delete(&Target { namespace, name, ..*target }, options).await {
                Ok(outcome) => outcomes.push(outcome),
                Err(status) if status.reason == "NotFound" => {}
                Err(status) => return Err(status),
            }
        }
        Ok(outcomes)
    }
}

fn step(row: &Row, old: &Value, options: &DeleteOptions) -> Step {
    let mut new = old.clone();
    let finalizers_changed = apply_propagation(&mut new, options);
    let going = !path::str(old, "metadata.deletionTimestamp").is_empty();
    if metadata::is_namespace(row) {
        return step_namespace(new, going);
    }
    let grace = grace_of(row, old, options);
    let held = !path::list(&new, "metadata.finalizers").is_empty();
    if !going {
        if grace == 0 && !held {
            return Step::Remove;
        }
        mark(&mut new, jiff::Timestamp::now().as_second() + grace, grace);
        return Step::Mark(new);
    }
    let before = path::int(old, "metadata.deletionGracePeriodSeconds").unwrap_or(0);
    let sooner = options.grace.is_some() && grace < before;
    if sooner {
        let end = path::str(old, "metadata.deletionTimestamp").parse::<jiff::Timestamp>();
        let end = end.map_or_else(|_bad| jiff::Timestamp::now().as_second(), jiff::Timestamp::as_second);
        mark(&mut new, end - before + grace, grace);
    }
    let now = if sooner { grace } else { before };
    match () {
        () if now == 0 && !held => Step::Remove,
        () if sooner || finalizers_changed => Step::Mark(new),
        () => Step::Wait,
    }
}

/// A namespace ends when its contents have: the namespace controller takes the finalizer away.
fn step_namespace(mut new: Value, going: bool) -> Step {
    let held = !path::list(&new, "metadata.finalizers").is_empty() || !path::list(&new, "spec.finalizers").is_empty();
    match (going, held) {
        (_, false) => Step::Remove,
        (true, true) => Step::Wait,
        (false, true) => {
            metadata::of(&mut new).insert("deletionTimestamp".to_owned(), metadata::now().into());
            path::entry(&mut new, "status").insert("phase".to_owned(), "Terminating".into());
            Step::Mark(new)
        }
    }
}

fn mark(object: &mut Value, end: i64, grace: i64) {
    let metadata = metadata::of(object);
    metadata.insert("deletionTimestamp".to_owned(), metadata::timestamp(end).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|&generation| generation > 0) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Only pods end gracefully, and only where somebody ends them.
fn grace_of(row: &Row, old: &Value, options: &DeleteOptions) -> i64 {
    if row.storage_key != "pods" {
        return 0;
    }
    let finished = matches!(path::str(old, "status.phase"), "Failed" | "Succeeded");
    if path::str(old, "spec.nodeName").is_empty() || finished {
        return 0;
    }
    let wanted = options.grace.or_else(|| path::int(old, "spec.terminationGracePeriodSeconds")).unwrap_or(30);
    if wanted < 0 { 1 } else { wanted }
}

/// Finalizers that make the garbage collector act first; whether they changed.
fn apply_propagation(object: &mut Value, options: &DeleteOptions) -> bool {
    let Some(propagation) = options.propagation else { return false };
    let before = path::list(object, "metadata.finalizers").to_vec();
    let mut finalizers: Vec<Value> =
        before.iter().filter(|name| *name != "orphan" && *name != "foregroundDeletion").cloned().collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push("foregroundDeletion".into()),
        Propagation::Orphan => finalizers.push("orphan".into()),
    }
    if finalizers == before {
        return false;
    }
    metadata::of(object).insert("finalizers".to_owned(), json!(finalizers));
    true
}

#[cfg(test)]
mod tests {
    use api::schema::row;
    use serde_json::{Value, json};

    use super::{DeleteOptions, Propagation, Step, path, step};

    #[track_caller]
    fn check(resource: &str, object: &Value, options: &DeleteOptions, expected: &str) {
        let row = row("", "v1", resource).expect("a resource");
        let found = match step(row, object, options) {
            Step::Remove => "remove".to_owned(),
            Step::Wait => "wait".to_owned(),
            Step::Mark(new) => format!(
                "mark {} {}",
                path::int(&new, "metadata.deletionGracePeriodSeconds").unwrap_or(-1),
                path::get(&new, "metadata.finalizers"),
            ),
        };
        assert_eq!(found, expected, "{object}");
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions { grace: Some(seconds), ..DeleteOptions::default() }
    }

    #[test]
    fn pods_end_gracefully() {
        let plain = DeleteOptions::default();
        let running = json!({"metadata": {}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        check("pods", &json!({"metadata": {}, "spec": {}}), &plain, "remove");
        check("pods", &running, &plain, "mark 7 null");
        check("pods", &running, &grace(0), "remove");
        check("pods", &running, &grace(-1), "mark 1 null");
        let mut going = running.clone();
        going["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 7});
        check("pods", &going, &plain, "wait");
        check("pods", &going, &grace(60), "wait");
        check("pods", &going, &grace(3), "mark 3 null");
        check("pods", &going, &grace(0), "remove");
        let mut finished = running;
        finished["status"] = json!({"phase": "Succeeded"});
        check("pods", &finished, &plain, "remove");
    }

    #[test]
    fn finalizers_hold_an_object() {
        let plain = DeleteOptions::default();
        check("configmaps", &json!({"metadata": {}}), &plain, "remove");
        check("configmaps", &json!({"metadata": {"finalizers": ["a/b"]}}), &plain, "mark 0 [\"a/b\"]");
        let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        check("configmaps", &json!({"metadata": {}}), &foreground, "mark 0 [\"foregroundDeletion\"]");
        let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        check("configmaps", &json!({"metadata": {"finalizers": ["orphan"]}}), &background, "remove");
    }

    #[test]
    fn namespaces_end_when_they_are_empty() {
        let plain = DeleteOptions::default();
        check("namespaces", &json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}}), &plain, "mark -1 null");
        check("namespaces", &json!({"metadata": {}, "spec": {}}), &plain, "remove");
    }
}
