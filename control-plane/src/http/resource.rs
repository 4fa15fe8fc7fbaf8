//! Requests for resources: the row, the verb, the subresource → a handler.
use std::sync::Arc;

use api::schema::Row;
use api::status::Status;

use super::reply::Reply;
use super::{Call, Server, log, object, review, scale, upgrade};
use crate::registry::Target;

/// Answers an authorized request for a resource.
pub(super) async fn handle(server: &Arc<Server>, call: Call) -> Result<Reply, Status> {
    let place = &call.place;
    let found = api::schema::row(&place.group, &place.version, &place.resource).filter(|row| row.served);
    let row: &'static Row = found.ok_or_else(Status::path_not_found)?;
    if row.namespaced() && place.namespace.is_empty() && !matches!(place.verb, "list" | "watch") {
        let reviewed = place.verb == "deletecollection"; // Upstream deletes collections in one namespace only.
        return Err(if reviewed { Status::method_not_allowed(row, place.verb) } else { Status::path_not_found() });
    }
    if !row.namespaced() && !place.namespace.is_empty() && row.resource != "namespaces" {
        return Err(Status::path_not_found());
    }
    if !place.subresource.is_empty() {
        return subresource(server, row, call).await;
    }
    if !row.verbs.contains(place.verb) {
        return Err(Status::method_not_allowed(row, place.verb));
    }
    if review::is_review(row) {
        return review::create(server, row, call).await;
    }
    match place.verb {
        "get" => object::get(server, row, call).await,
        "list" => object::list(server, row, call).await,
        "watch" => object::watch(server, row, call).await,
        "create" if row.resource == "bindings" => object::bind(server, row, call).await,
        "create" => object::create(server, row, call).await,
        "update" => object::update(server, row, call).await,
        "patch" => object::patch(server, row, call).await,
        "delete" => object::delete(server, row, call).await,
        "deletecollection" => object::delete_collection(server, row, call).await,
        verb => Err(Status::method_not_allowed(row, verb)),
    }
}

async fn subresource(server: &Arc<Server>, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let place = &call.place;
    let known = row.subresource(&place.subresource).ok_or_else(Status::path_not_found)?;
    if !known.verbs.contains(place.verb) {
        return Err(Status::method_not_allowed(row, place.verb));
    }
    match (row.resource, known.name, place.verb) {
        ("pods", "log", _) => log::stream(server, row, call).await,
        ("pods", "binding", _) => object::bind(server, row, call).await,
        ("pods", "eviction", _) => object::evict(server, row, call).await,
        ("serviceaccounts", "token", _) => review::token(server, row, call).await,
        (_, "scale", "get") => scale::get(server, row, call).await,
        (_, "scale", _) => scale::update(server, row, call).await,
        ("pods", "exec" | "attach" | "portforward", _) => upgrade::stream(server, row, call).await,
        (_, "proxy", _) => {
            let mut status =
                Status::new(501, "NotImplemented", format!("{}/{} is not supported yet", row.resource, known.name));
            status.details = None;
            Err(status)
        }
        (_, _, "get") => object::get(server, row, call).await,
        (_, _, "update") => object::update(server, row, call).await,
        (_, _, "patch") => object::patch(server, row, call).await,
        (_, _, verb) => Err(Status::method_not_allowed(row, verb)),
    }
}

/// The registry's target of a call.
pub(super) fn target<'a>(row: &'static Row, call: &'a Call) -> Target<'a> {
    let place = &call.place;
    Target {
        user: &call.user,
        row,
        // A namespace is no content of itself.
        namespace: if row.namespaced() { &place.namespace } else { "" },
        name: &place.name,
        subresource: &place.subresource,
    }
}

#[cfg(test)]
mod tests {
    use api::schema::Verb;

    #[test]
    fn the_schema_names_the_verbs_that_we_dispatch() {
        let names: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
            assert!(names.contains(&verb), "{verb}");
        }
    }
}
