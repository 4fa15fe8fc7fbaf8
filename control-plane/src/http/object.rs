//! The generic verbs over HTTP: bodies and queries in, replies out; the work is the registry's.
use std::sync::Arc;
use std::time::Duration;

use api::path;
use api::schema::Row;
use api::select::{FieldSelector, LabelSelector};
use api::status::Status;
use futures::stream;
use rand::Rng;
use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::resource::target;
use super::{Call, Server, accept, body};
use crate::registry::read::{ListOptions, Selection};
use crate::registry::view;
use crate::registry::watch::WatchOptions;
use crate::registry::{Outcome, Preconditions, Target};

/// As upstream: between one and two of these.
const WATCH_AT_LEAST: u64 = 1800;
/// Longer lists are rendered where they keep nobody else waiting.
const LONG_LIST: usize = 500;

pub(super) async fn get(server: &Server, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let view = accept::view(&call.headers, &call.query)?;
    let entry = server.registry.get(&target(row, &call), call.query.get("resourceVersion")).await?;
    Ok(reply::json(200, view::object(view, row, &entry.value, Some(entry.revision))))
}

pub(super) async fn list(server: &Server, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let view = accept::view(&call.headers, &call.query)?;
    let options = list_options(row, &call)?;
    let page = server.registry.list(&target(row, &call), &options).await?;
    let gzip = accept::gzip(&call.headers);
    if page.items.len() < LONG_LIST {
        return Ok(reply::long_json(view::list(view, row, &page), gzip));
    }
    let rendered = tokio::task::spawn_blocking(move || reply::long_json(view::list(view, row, &page), gzip)).await;
    rendered.map_err(|error| Status::internal(&error))
}

pub(super) async fn watch(server: &Server, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let seconds = match call.query.number("timeoutSeconds")?.and_then(|n| u64::try_from(n).ok()).filter(|&n| n > 0) {
        Some(seconds) => seconds,
        None => rand::rng().random_range(WATCH_AT_LEAST..WATCH_AT_LEAST * 2),
    };
    let options = WatchOptions {
        bookmarks: call.query.flag("allowWatchBookmarks"),
        initial_events: call.query.has("sendInitialEvents").then(|| call.query.flag("sendInitialEvents")),
        timeout: Duration::from_secs(seconds),
        view: accept::view(&call.headers, &call.query)?,
    };
    let list = list_options(row, &call)?;
    let watch = server.registry.watch(&target(row, &call), &list, options).await?;
    let frames = stream::unfold(watch, |mut watch| async move { Some((Ok(watch.next().await?), watch)) });
    let mut reply = http::Response::new(reply::stream(frames));
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(reply::JSON));
    reply.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-cache, private"));
    Ok(reply)
}

fn list_options(row: &Row, call: &Call) -> Result<ListOptions, Status> {
    let query = &call.query;
    let labels = LabelSelector::parse(query.get("labelSelector"))?;
    let mut fields = query.get("fieldSelector").to_owned();
    if !call.place.name.is_empty() && call.place.verb == "watch" && fields.is_empty() {
        fields = format!("metadata.name={}", call.place.name);
    }
    let limit = query.number("limit")?.unwrap_or(0);
    Ok(ListOptions {
        selection: Selection { labels, fields: FieldSelector::parse(row, &fields)? },
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token: query.get("continue").to_owned(),
        revision: query.get("resourceVersion").to_owned(),
        revision_match: query.get("resourceVersionMatch").to_owned(),
    })
}

pub(super) async fn create(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let dry_run = body::dry_run(&call)?;
    let mut warnings = Vec::new();
    let object = body::object(&mut call, row, &mut warnings).await?;
    let outcome = server.registry.create(&target(row, &call), object, dry_run).await?;
    written(row, &call, &outcome, &warnings)
}

pub(super) async fn update(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let dry_run = body::dry_run(&call)?;
    let mut warnings = Vec::new();
    let object = body::object(&mut call, row, &mut warnings).await?;
    let target = target(row, &call);
    let changed = server.registry.update(&target, &Preconditions::default(), dry_run, |_old| Ok(object.clone())).await;
    let outcome = match changed {
        Err(status) if status.reason == "NotFound" && may_create(row, &call) => {
            let mut object = object;
            path::entry(&mut object, "metadata").shift_remove("resourceVersion");
            check_name(&object, &call.place.name)?;
            server.registry.create(&Target { name: "", ..target }, object, dry_run).await?
        }
        result => result?,
    };
    written(row, &call, &outcome, &warnings)
}

fn may_create(row: &Row, call: &Call) -> bool {
    call.place.subresource.is_empty() && api::registry::allow_create_on_update(row)
}

fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    let given = path::str(object, "metadata.name");
    if given == name {
        return Ok(());
    }
    let text = format!("the name of the object ({given}) does not match the name on the URL ({name})");
    Err(Status::bad_request(text))
}

pub(super) async fn patch(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let dry_run = body::dry_run(&call)?;
    let validation = body::Validation::of(&call)?;
    let patch = body::Patch::of(&mut call, row).await?;
    let mut warnings = Vec::new();
    let change = |old: &Value| {
        warnings.clear();
        let patched = patch.apply(row.type_name(), old)?;
        validation.judge(row, api::decode::check(patched, row)?, &mut warnings)
    };
    let outcome = server.registry.update(&target(row, &call), &Preconditions::default(), dry_run, change).await?;
    written(row, &call, &outcome, &warnings)
}

fn written(row: &'static Row, call: &Call, outcome: &Outcome, warnings: &[String]) -> Result<Reply, Status> {
    let view = accept::view(&call.headers, &call.query)?;
    let code = if outcome.created { 201 } else { 200 };
    let mut reply = reply::json(code, view::object(view, row, &outcome.value, outcome.revision));
    reply::warn(&mut reply, warnings);
    Ok(reply)
}

pub(super) async fn delete(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let options = body::delete_options(&mut call).await?;
    let outcome = server.registry.delete(&target(row, &call), &options).await?;
    // Upstream shows the pod that has gone or will; of others that are gone it tells only the name.
    if !outcome.deleted || row.resource == "pods" {
        return written(row, &call, &outcome, &[]);
    }
    let object = view::value(row, &outcome.value, outcome.revision.unwrap_or(0));
    Ok(reply::value(200, &Status::success(row, &call.place.name, path::str(&object, "metadata.uid"))))
}

pub(super) async fn delete_collection(server: &Server, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let list = list_options(row, &call)?;
    let options = body::delete_options(&mut call).await?;
    let outcomes = server.registry.delete_collection(&target(row, &call), &list, &options).await?;
    let item = |outcome: &Outcome| view::value(row, &outcome.value, outcome.revision.unwrap_or(0));
    let items: Vec<Value> = outcomes.iter().map(item).collect();
    let revision = server.registry.cache.applied().to_string();
    let meta = json!({"resourceVersion": revision});
    Ok(reply::value(
        200,
        &json!({"kind": row.list_kind(), "apiVersion": row.api_version(), "metadata": meta, "items": items}),
    ))
}

/// `pods/binding` and `bindings`: the scheduler's word.
pub(super) async fn bind(server: &Arc<Server>, _row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let dry_run = body::dry_run(&call)?;
    let binding = body::options(&mut call, "Binding").await?;
    let given = path::str(&binding, "metadata.name").to_owned();
    let name = if call.place.name.is_empty() { given } else { call.place.name.clone() };
    server.registry.bind(&call.user, &call.place.namespace, &name, &binding, dry_run).await?;
    Ok(reply::value(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}

/// `pods/eviction`: a delete that asks the disruption budgets first.
pub(super) async fn evict(server: &Arc<Server>, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    let eviction = body::options(&mut call, "Eviction").await?;
    let options = body::read_delete_options(path::get(&eviction, "deleteOptions"), body::dry_run(&call)?)?;
    server.registry.evict(&Target { subresource: "", ..target(row, &call) }, &options).await?;
    Ok(reply::value(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}
