//! `pods/log`: the node's answer, passed through as it comes.
use std::sync::Arc;

use api::path;
use api::schema::Row;
use api::status::Status;
use futures::StreamExt;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt, BodyStream};
use serde_json::Value;

use super::reply::{self, Reply};
use super::resource::target;
use super::{Call, Server};
use crate::registry::view;

const OPTIONS: [&str; 8] =
    ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];

pub(super) async fn stream(server: &Arc<Server>, row: &'static Row, call: Call) -> Result<Reply, Status> {
    let entry = server.registry.get(&target(row, &call), "").await?;
    let pod = view::value(row, &entry.value, entry.revision);
    let container = container(&pod, call.query.get("container"), &call.place.name)?;
    let name = path::str(&pod, "spec.nodeName");
    if name.is_empty() {
        return Ok(reply::bytes(200, "text/plain", Vec::new())); // Nothing runs yet, nothing is said.
    }
    let Some(node) = server.registry.find("minions", "", name) else {
        return Err(Status::not_found("nodes", name));
    };
    let mut options = String::new();
    for name in OPTIONS.into_iter().filter(|name| call.query.has(name)) {
        options.push_str(if options.is_empty() { "?" } else { "&" });
        options.push_str(&format!("{name}={}", call.query.get(name).replace('+', "%2B")));
    }
    let place = &call.place;
    let url = format!("/containerLogs/{}/{}/{container}{options}", place.namespace, place.name);
    let answer = server.kubelet.get(&node, &url).await.map_err(|error| Status::internal(&error))?;
    if !answer.status().is_success() {
        return Err(refused(answer).await);
    }
    let pieces = BodyStream::new(answer.into_body()).filter_map(|frame| async {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(std::io::Error::other(error))),
        }
    });
    let mut reply = Response::new(reply::stream(pieces));
    reply.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(reply)
}

/// The node's words in a Status, as kubectl expects them.
async fn refused(answer: Response<hyper::body::Incoming>) -> Status {
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    match code {
        400 => Status::bad_request(text),
        404 => Status::new(404, "NotFound", text),
        _ => Status::internal(format!("the node answered {code}: {text}")),
    }
}

/// The container that is meant: the only one, if none is named.
pub(super) fn container(pod: &Value, wanted: &str, name: &str) -> Result<String, Status> {
    let names = |kind: &str| -> Vec<String> {
        path::list(path::get(pod, "spec"), kind).iter().map(|known| path::str(known, "name").to_owned()).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    if wanted.is_empty() {
        return match (containers.as_slice(), init.is_empty()) {
            ([only], _) => Ok(only.clone()),
            (many, none) => {
                let mut text =
                    format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
                if !none {
                    text.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        };
    }
    let known = containers.into_iter().chain(init).chain(names("ephemeralContainers")).find(|known| known == wanted);
    known.ok_or_else(|| Status::bad_request(format!("container {wanted} is not valid for pod {name}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::container;

    #[track_caller]
    fn check(pod: &Value, wanted: &str, expected: Result<&str, &str>) {
        let found = container(pod, wanted, "p").map_err(|status| status.message);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn one_container_needs_no_name() {
        let one = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        check(&one, "", Ok("a"));
        check(&one, "i", Ok("i"));
        check(&two, "", Err("a container name must be specified for pod p, choose one of: [a b]"));
        check(&two, "c", Err("container c is not valid for pod p"));
    }
}
