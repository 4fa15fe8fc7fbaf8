//! `pods/exec`, `pods/attach`, `pods/portforward`: the client's connection becomes one to the pod's node.
//!
//! The request goes to the node in the kubelet's form, with the client's offer of protocols as it is, and the node's answer
//! comes back as it is; once both sides have switched, bytes pass untouched. So whatever a node speaks (WebSocket, SPDY,
//! one in the other), its clients can.
use std::sync::Arc;

use api::path;
use api::schema::Row;
use api::status::Status;
use form_urlencoded::Serializer;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::copy_bidirectional_with_sizes;

use super::query::Query;
use super::reply::{self, Reply};
use super::resource::target;
use super::{Call, Server, log, permit};
use crate::registry::view;

/// Of each direction of a connection.
const BUFFER: usize = 64 << 10;
/// What the two sides agree by, and nothing that says who the client is.
const HEADERS: [&str; 8] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "x-stream-protocol-version",
    "user-agent",
];
/// A WebSocket client without headers of its own carries its token so; it is not the node's business.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

pub(super) async fn stream(server: &Arc<Server>, row: &'static Row, mut call: Call) -> Result<Reply, Status> {
    if call.place.verb == "get" {
        // A GET opens the same stream as a POST and so needs the same right, as upstream since 1.35.
        let mut place = call.place.clone();
        place.verb = "create";
        permit(server, &call.user, &place)?;
    }
    let entry = server.registry.get(&target(row, &call), "").await?;
    let pod = view::value(row, &entry.value, entry.revision);
    let url = url(&pod, &call.place.subresource, &call.query)?;
    let upgrade = call.upgrade.take().filter(|_| wants_upgrade(&call.headers));
    let upgrade = upgrade.ok_or_else(|| Status::bad_request("Upgrade request required"))?;
    let node = path::str(&pod, "spec.nodeName");
    let node = server.registry.find("minions", "", node).ok_or_else(|| Status::not_found("nodes", node))?;
    let place = &call.place;
    tracing::info!(
        user = call.user.name,
        namespace = place.namespace,
        pod = place.name,
        command = ?call.query.all("command"),
        ports = ?call.query.all("ports"),
        "{}",
        place.subresource
    );
    let answer = server.kubelet.upgrade(&node, &url, headers(&call.headers)).await;
    let answer = answer.map_err(|error| Status::internal(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(refused(answer));
    }
    Ok(switch(answer, upgrade))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut words = connection.flat_map(|value| value.split(','));
    headers.contains_key(UPGRADE) && words.any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// The kubelet's path for the client's.
fn url(pod: &Value, subresource: &str, query: &Query) -> Result<String, Status> {
    let (namespace, name) = (path::str(pod, "metadata.namespace"), path::str(pod, "metadata.name"));
    let mut options = Serializer::new(String::new());
    let url = if subresource == "portforward" {
        if query.has("ports") {
            options.append_pair("port", &query.all("ports").join(","));
        }
        format!("/portForward/{namespace}/{name}")
    } else {
        for (asked, sent) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
            if query.flag(asked) {
                options.append_pair(sent, "1");
            }
        }
        for word in query.all("command") {
            options.append_pair("command", word);
        }
        let container = log::container(pod, query.get("container"), name)?;
        format!("/{subresource}/{namespace}/{name}/{container}")
    };
    if path::str(pod, "spec.nodeName").is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let options = options.finish();
    Ok(if options.is_empty() { url } else { format!("{url}?{options}") })
}

/// What the node gets of the client's headers.
fn headers(all: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in HEADERS {
        for value in all.get_all(name) {
            let words = value.to_str().unwrap_or_default().split(',').map(str::trim);
            let words: Vec<&str> = words.filter(|word| !word.starts_with(BEARER)).collect();
            if let Ok(value) = HeaderValue::from_str(&words.join(", ")) {
                passed.append(HeaderName::from_static(name), value);
            }
        }
    }
    passed
}

/// The node's refusal as it is.
fn refused(answer: Response<hyper::body::Incoming>) -> Reply {
    let (mut parts, body) = answer.into_parts();
    for name in ["connection", "upgrade", "transfer-encoding"] {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync())
}

fn switch(mut answer: Response<hyper::body::Incoming>, client: OnUpgrade) -> Reply {
    let node = hyper::upgrade::on(&mut answer);
    let mut reply = Response::new(reply::full(Vec::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *reply.headers_mut() = answer.headers().clone();
    tokio::spawn(async move {
        let (client, node) = match tokio::try_join!(client, node) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a client or node did not switch protocols"),
        };
        let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
        if let Err(error) = copy_bidirectional_with_sizes(&mut client, &mut node, BUFFER, BUFFER).await {
            tracing::debug!(%error, "a stream ended early");
        }
    });
    reply
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};
    use serde_json::json;

    use super::{Query, headers, url, wants_upgrade};

    #[track_caller]
    fn check(subresource: &str, query: &str, expected: Result<&str, &str>) {
        let containers = json!([{"name": "a"}, {"name": "b"}]);
        let pod =
            json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"nodeName": "x", "containers": containers}});
        let found = url(&pod, subresource, &Query::parse(query)).map_err(|status| status.message);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn the_kubelets_paths() {
        check(
            "exec",
            "command=echo&command=a+b%26&container=b&stdin=true&stdout=true&tty=false",
            Ok("/exec/n/p/b?input=1&output=1&command=echo&command=a+b%26"),
        );
        check("attach", "container=a&stderr=true", Ok("/attach/n/p/a?error=1"));
        check("exec", "command=ls", Err("a container name must be specified for pod p, choose one of: [a b]"));
        check("exec", "container=c", Err("container c is not valid for pod p"));
        check("portforward", "", Ok("/portForward/n/p"));
        check("portforward", "ports=80&ports=443", Ok("/portForward/n/p?port=80%2C443"));
        let waiting = json!({"metadata": {"namespace": "n", "name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let refused = url(&waiting, "exec", &Query::parse("")).expect_err("no node");
        assert_eq!((refused.code, refused.message.as_str()), (400, "pod p does not have a host assigned"));
    }

    #[test]
    fn the_node_learns_the_protocol_and_not_the_client() {
        let pairs = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("authorization", "Bearer secret"),
            ("impersonate-user", "somebody"),
            ("sec-websocket-protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io"),
        ];
        let pairs = pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let all: HeaderMap = pairs.into_iter().collect();
        let passed = headers(&all);
        assert_eq!(
            (passed.len(), &passed["sec-websocket-protocol"]),
            (3, &HeaderValue::from_static("v5.channel.k8s.io"))
        );
        assert!(wants_upgrade(&all) && !wants_upgrade(&HeaderMap::new()));
    }
}
