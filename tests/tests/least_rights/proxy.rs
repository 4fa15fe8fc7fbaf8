//! A proxy in front of an API server that notes every request, with a token of its own.
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use kube::{Client, client::Body};
use tokio::net::TcpListener;

/// What a rule of RBAC grants.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Right {
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) verb: String,
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// For the message of a test that fails.
    #[expect(dead_code, reason = "printed")]
    pub(crate) line: String,
    /// Absent for a path that is no resource's.
    pub(crate) right: Option<Right>,
    pub(crate) status: u16,
}

/// What has been seen so far.
pub(crate) type Log = Arc<Mutex<Vec<Seen>>>;

/// Listens on 127.0.0.1 and hands everything on to the client's server.
pub(crate) async fn start(client: Client, log: Log) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, log) = (client.clone(), log.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| hand_on(client.clone(), log.clone(), request));
                // Ends with an error when the server is away: the agent sees a connection that closes.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

type Answer = Result<Response<Body>, kube::Error>;

async fn hand_on(client: Client, log: Log, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let right = right(parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default());
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut onward = Request::builder().method(parts.method).uri(parts.uri);
    for name in ["accept", "content-type"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let reply = client.send(onward.body(Body::from(bytes.to_vec())).expect("a request")).await?;
    log.lock().expect("no panic").push(Seen { line, right, status: reply.status().as_u16() });
    Ok(reply)
}

/// Group, resource and verb of a request, as RBAC sees it.
fn right(method: &str, path: &str, query: &str) -> Option<Right> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match words.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (resource, name, sub) = match rest {
        ["namespaces", _, resource, rest @ ..] | [resource, rest @ ..] => (*resource, rest.first(), rest.get(1)),
        [] => return None,
    };
    let watch = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    let verb = match (method, name) {
        ("GET", None) if watch => "watch",
        ("GET", None) => "list",
        ("GET", Some(_)) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", None) => "deletecollection",
        ("DELETE", Some(_)) => "delete",
        _ => return None,
    };
    let resource = sub.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}"));
    Some(Right { group: group.to_owned(), resource, verb: verb.to_owned() })
}

#[test]
fn paths_are_rights() {
    #[track_caller]
    fn check(method: &str, path: &str, query: &str, expected: &str) {
        let text = right(method, path, query).map(|right| format!("{} {}.{}", right.verb, right.resource, right.group));
        assert_eq!(text.unwrap_or_default(), expected);
    }
    check("GET", "/api/v1/pods", "limit=500", "list pods.");
    check("GET", "/api/v1/namespaces", "watch=true&x=1", "watch namespaces.");
    check("GET", "/api/v1/nodes/n1", "", "get nodes.");
    check("PATCH", "/api/v1/nodes/n1/status", "", "patch nodes/status.");
    check("POST", "/apis/events.k8s.io/v1/namespaces/default/events", "", "create events.events.k8s.io");
    check("GET", "/version", "", "");
}
