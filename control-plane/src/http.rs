//! The server's front: connections, and the one entry of every request.
//!
//! TLS with HTTP/1.1 and HTTP/2 by ALPN; then place → authentication → impersonation → authorization → handler. A
//! handler answers with a reply or a `Status`; nothing else turns errors into replies.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::Status;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::authn::{self, Impersonation, User};
use crate::authz::{self, Object, Question};
use crate::kubelet::Kubelet;
use crate::registry::Registry;

mod accept;
mod body;
mod limit;
mod log;
mod metrics;
mod object;
mod openapi_v2;
mod path;
mod place;
mod query;
mod reply;
mod resource;
mod review;
mod scale;
mod upgrade;

use place::Place;
use query::Query;
use reply::Reply;

/// Objects are at most 1.5 MB in storage; a body may be twice that, as upstream.
const BODY_LIMIT: usize = 3 << 20;
/// A client must finish its handshake in this time.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Everything that handlers need.
pub struct Server {
    /// The verbs.
    pub registry: Arc<Registry>,
    /// Signs and verifies tokens.
    pub tokens: Arc<authn::Tokens>,
    /// Reaches the nodes.
    pub kubelet: Kubelet,
    /// Counters.
    pub metrics: metrics::Metrics,
    limits: limit::Limits,
}

impl Server {
    /// Over a registry.
    pub fn new(registry: Arc<Registry>, tokens: Arc<authn::Tokens>, kubelet: Kubelet) -> Self {
        Self { registry, tokens, kubelet, metrics: metrics::Metrics::default(), limits: limit::Limits::default() }
    }
}

/// A request after its first steps.
struct Call {
    place: Place,
    query: Query,
    headers: HeaderMap,
    user: Arc<User>,
    body: Incoming,
    /// The connection itself, if the client wants another protocol on it.
    upgrade: Option<OnUpgrade>,
}

impl Call {
    /// The whole body.
    async fn body(&mut self) -> Result<bytes::Bytes, Status> {
        match Limited::new(&mut self.body, BODY_LIMIT).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(Status::too_large(format!("limit is {BODY_LIMIT}")))
            }
            Err(error) => Err(Status::bad_request(format!("unable to read the body: {error}"))),
        }
    }
}

/// Serves a listener. When it is dropped its connections end too.
pub async fn serve(server: Arc<Server>, listener: TcpListener, tls: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(connection(Arc::clone(&server), stream, tls.clone()));
                }
                Err(error) => {
                    // Out of descriptors, mostly: others may end meanwhile.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn connection(server: Arc<Server>, stream: TcpStream, tls: TlsAcceptor) {
    let _best_effort = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_late) => return tracing::debug!("a TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = certificates.and_then(|chain| authn::user_of_certificate(chain.first()?)).map(Arc::new);
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move { Ok::<_, Infallible>(handle(&server, peer.as_ref(), request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    builder.http2().keep_alive_interval(Duration::from_secs(30)).keep_alive_timeout(Duration::from_secs(20));
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error = &*error, "a connection ended");
    }
}

async fn handle(server: &Arc<Server>, peer: Option<&Arc<User>>, request: Request<Incoming>) -> Reply {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let place = Place::parse(&parts.method, parts.uri.path(), &query);
    let label = metrics::Label::of(&place);
    let result = match user(server, peer, &parts.headers) {
        Ok(user) => {
            let call = Call { place, query, headers: parts.headers, user, body, upgrade };
            answer(server, call).await
        }
        Err(status) => Err(status),
    };
    let reply = result.unwrap_or_else(|status| reply::refusal(&status));
    server.metrics.count(label, reply.status().as_u16(), started.elapsed());
    reply
}

async fn answer(server: &Arc<Server>, call: Call) -> Result<Reply, Status> {
    permit(server, &call.user, &call.place)?;
    let _counted = server.limits.admit(&call.place, &call.user)?;
    if call.place.is_resource { resource::handle(server, call).await } else { path::handle(server, call).await }
}

fn permit(server: &Server, user: &User, place: &Place) -> Result<(), Status> {
    let object = if place.is_resource {
        Object::Resource {
            group: &place.group,
            resource: &place.resource,
            subresource: &place.subresource,
            namespace: &place.namespace,
            name: &place.name,
        }
    } else {
        Object::Path(&place.path)
    };
    authz::authorize(&server.registry.rbac, &Question { user, verb: place.verb, object })
}

fn user(server: &Server, peer: Option<&Arc<User>>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
    let user = authn::authenticate(&server.tokens, peer, headers)?;
    let Some(Impersonation { user: wanted }) = Impersonation::of(headers)? else { return Ok(user) };
    let rbac = &server.registry.rbac;
    let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let object = Object::Resource { group, resource, subresource, namespace, name };
        authz::authorize(rbac, &Question { user: &user, verb: "impersonate", object })
    };
    match authn::split_service_account(&wanted.name) {
        Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name)?,
        None => may("", "users", "", "", &wanted.name)?,
    }
    let implied = |group: &str| group == authn::AUTHENTICATED || group.starts_with("system:serviceaccounts");
    for group in wanted.groups.iter().filter(|group| !implied(group)) {
        may("", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    Ok(Arc::new(wanted))
}
