//! The controllers' way to the API: the same registry as HTTP, without HTTP.
//!
//! Their watch is the store's own sequence of changes, in the order of revisions over all resources; their writes pass
//! every check that a client's write passes, but authorization.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use api::schema::{Row, Verb};
use api::select::{FieldSelector, LabelSelector};
use api::status::Status;
use controllers::action::{Action, Propagation as Wanted};
use controllers::runner::{Api, ApiError, WatchEvent};
use controllers::snapshot::Kind;
use serde_json::json;
use tokio::runtime::Handle;

use crate::authn::User;
use crate::registry::read::{ListOptions, Selection};
use crate::registry::{DeleteOptions, Preconditions, Propagation, Registry, Target};
use crate::serve;
use crate::storage::{Change, Changes};

/// The registry, for the controllers' threads.
pub(crate) struct ControllerApi {
    registry: Arc<Registry>,
    runtime: Handle,
    /// `deployments.apps` → the row in which it is stored.
    rows: HashMap<String, &'static Row>,
}

impl ControllerApi {
    /// Over a registry; `runtime` runs what the controllers' threads wait for.
    pub(crate) fn new(registry: Arc<Registry>, runtime: Handle) -> Self {
        let stored = api::schema::rows().iter().map(Row::storage_row).filter(|row| row.served);
        let rows = stored.map(|row| (row.group_resource().to_string(), row)).collect();
        Self { registry, runtime, rows }
    }

    fn row(&self, resource: &str) -> Result<&'static Row, Status> {
        self.rows.get(resource).copied().ok_or_else(Status::path_not_found)
    }

    async fn perform(&self, user: &User, action: &Action) -> Result<u64, Status> {
        let registry = &self.registry;
        let target = |resource: &str, namespace, name, subresource| {
            self.row(resource).map(|row| Target { user, row, namespace, name, subresource })
        };
        let outcome = match action {
            Action::Create { resource, namespace, object } => {
                registry.create(&target(resource, namespace, "", "")?, object.clone(), false).await?
            }
            Action::Update { resource, namespace, name, object } => {
                let target = target(resource, namespace, name, "")?;
                registry.update(&target, &Preconditions::default(), false, |_old| Ok(object.clone())).await?
            }
            Action::Patch { resource, namespace, name, subresource, patch, uid, resource_version } => {
                let target = target(resource, namespace, name, subresource.unwrap_or_default())?;
                let preconditions = Preconditions { uid: uid.clone(), resource_version: resource_version.clone() };
                registry.update(&target, &preconditions, false, |old| Ok(api::patch::merge(old, patch))).await?
            }
            Action::Delete { resource, namespace, name, uid, resource_version, grace, propagation } => {
                let options = DeleteOptions {
                    preconditions: Preconditions { uid: uid.clone(), resource_version: resource_version.clone() },
                    grace: grace.and_then(|grace| i64::try_from(grace).ok()),
                    propagation: propagation.map(propagation_of),
                    dry_run: false,
                };
                registry.delete(&target(resource, namespace, name, "")?, &options).await?
            }
            Action::DeleteCollection { resource, namespace } => {
                let target = target(resource, namespace, "", "")?;
                let list = everything(target.row)?;
                let outcomes = registry.delete_collection(&target, &list, &DeleteOptions::default()).await?;
                return Ok(outcomes.iter().filter_map(|outcome| outcome.revision).max().unwrap_or(0));
            }
            Action::Bind { namespace, pod, uid, node } => {
                let binding = json!({"metadata": {"name": pod, "uid": uid}, "target": {"kind": "Node", "name": node}});
                registry.bind(user, namespace, pod, &binding, false).await?
            }
            Action::Event(_) | Action::IfFailed(_) | Action::RequeueAfter(_) => return Ok(0),
        };
        Ok(outcome.revision.unwrap_or(0))
    }
}

fn propagation_of(wanted: Wanted) -> Propagation {
    match wanted {
        Wanted::Background => Propagation::Background,
        Wanted::Foreground => Propagation::Foreground,
        Wanted::Orphan => Propagation::Orphan,
    }
}

fn everything(row: &Row) -> Result<ListOptions, Status> {
    let selection = Selection { labels: LabelSelector::parse("")?, fields: FieldSelector::parse(row, "")? };
    Ok(ListOptions {
        selection,
        limit: 0,
        continue_token: String::new(),
        revision: String::new(),
        revision_match: String::new(),
    })
}

impl Api for ControllerApi {
    fn kinds(&self) -> Vec<Kind> {
        let listable = self.rows.iter().filter(|(_, row)| row.verbs.has(Verb::List) && row.verbs.has(Verb::Watch));
        let mut kinds: Vec<Kind> = listable
            .map(|(resource, row)| Kind {
                resource: resource.clone(),
                api_version: row.api_version(),
                kind: row.kind.to_owned(),
                namespaced: row.namespaced(),
            })
            .collect();
        kinds.sort_unstable_by(|a, b| a.resource.cmp(&b.resource));
        kinds
    }

    fn list(&self, resource: &str) -> (u64, Vec<Arc<[u8]>>) {
        let cache = &self.registry.cache;
        if let Err(error) = self.runtime.block_on(cache.catch_up()) {
            tracing::error!(error = &error as &dyn std::error::Error, "the store cannot tell its revision");
        }
        let Ok(row) = self.row(resource) else { return (cache.applied(), Vec::new()) };
        let snapshot = cache.snapshot(row.storage_key);
        let objects = snapshot.objects.values().map(|entry| serve::object(&entry.value, entry.revision).into());
        (snapshot.revision, objects.collect())
    }

    fn watch(&self, resources: &[&str], from: u64) -> Receiver<WatchEvent> {
        let (sender, receiver) = channel();
        let wanted: HashMap<&'static str, Arc<str>> =
            resources.iter().filter_map(|name| Some((self.row(name).ok()?.storage_key, Arc::from(*name)))).collect();
        let started = self.runtime.block_on(async {
            let (newest, _) = self.registry.cache.storage().revision().await?;
            Ok::<_, crate::storage::Error>((newest, self.registry.cache.storage().watch(from).await?))
        });
        match started {
            Ok((newest, changes)) => {
                let forward = move || forward(changes, &wanted, newest.max(from), &sender);
                std::thread::Builder::new()
                    .name("controllers-watch".to_owned())
                    .spawn(forward)
                    .expect("the process may start threads");
            }
            Err(error) => {
                tracing::info!(%error, from, "the controllers list again");
                let _gone = sender.send(WatchEvent::Expired);
            }
        }
        receiver
    }

    fn execute(&self, controller: &str, action: &Action) -> Result<u64, ApiError> {
        let user = User::internal(&format!("system:serviceaccount:kube-system:{controller}"));
        let result = self.runtime.block_on(async {
            // What the controller has seen, the registry has seen: it follows the same sequence.
            let behind = self.registry.cache.catch_up().await;
            behind.map_err(|error| Status::internal(&error))?;
            self.perform(&user, action).await
        });
        result.map_err(|status| ApiError {
            code: status.code,
            reason: status.reason.into_owned(),
            message: status.message,
        })
    }
}

/// Ends when the controllers drop their end, or the store closes.
fn forward(mut changes: Changes, wanted: &HashMap<&'static str, Arc<str>>, newest: u64, sender: &Sender<WatchEvent>) {
    let mut progress = 0;
    // Nothing may have happened since `from`: then there is no batch to wait for.
    let mut batch = changes.try_recv().ok();
    loop {
        for change in batch.iter().flat_map(|batch| batch.iter()) {
            progress = change.revision;
            let Some(resource) = wanted.get(&*change.key.table) else { continue };
            if let Some(event) = event(change, resource)
                && sender.send(event).is_err()
            {
                return;
            }
        }
        if progress == 0 && batch.is_none() {
            progress = newest;
        }
        if sender.send(WatchEvent::Progress { revision: progress }).is_err() {
            return;
        }
        batch = changes.blocking_recv();
        if batch.is_none() {
            return;
        }
    }
}

fn event(change: &Change, resource: &Arc<str>) -> Option<WatchEvent> {
    let (bytes, deleted) = match (&change.value, &change.previous) {
        (Some(value), _) => (value, false),
        (None, Some((_, previous))) => (previous, true),
        (None, None) => return None,
    };
    let object = serve::object(bytes, change.revision).into();
    Some(WatchEvent::Change { revision: change.revision, resource: Arc::clone(resource), object, deleted })
}
