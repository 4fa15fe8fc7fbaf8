//! What the node serves on port 10250: logs and its pods, to the API server only.
//!
//! TLS with a certificate of the cluster's CA; a client certificate of that CA with the API server's name is required for
//! everything but `/healthz`. There is no token review: nobody else has business here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::context::Node;
use crate::logs::{self, Options};
use crate::plan;
use crate::pods::Pods;
use crate::runtime::{Container, State};

/// The one client: the API server's own name, signed by the cluster's CA.
const CLIENT: &str = "kube-apiserver-kubelet-client";

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key could not be read.
    #[error("read {}", path.display())]
    Pem {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The CA cannot verify clients.
    #[error("use {} to verify clients", path.display())]
    ClientCa {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    /// The certificate and key do not work together.
    #[error("serve with {}", path.display())]
    Certificate {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The port is taken.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The server's files.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) client_ca: &'a Path,
}

type Body = BoxBody<Bytes, Infallible>;

/// Binds the port and prepares TLS.
pub(crate) async fn bind(address: SocketAddr, files: &Files<'_>) -> Result<(TcpListener, TlsAcceptor), Error> {
    let config = tls(files)?;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok((listener, TlsAcceptor::from(Arc::new(config))))
}

fn tls(files: &Files<'_>) -> Result<ServerConfig, Error> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Pem { path, source }
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Error> {
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(pem(path))
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(files.client_ca)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).allow_unauthenticated().build();
    let verifier = verifier.map_err(|source| Error::ClientCa { path: files.client_ca.to_owned(), source })?;
    let key = PrivateKeyDer::from_pem_file(files.key).map_err(pem(files.key))?;
    let broken = |source| Error::Certificate { path: files.cert.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(broken)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(files.cert)?, key)
        .map_err(broken)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves for as long as the node runs.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, node: Arc<Node>, pods: Pods) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(stream, peer, tls.clone(), node.clone(), pods.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor, node: Arc<Node>, pods: Pods) {
    let stream = match tls.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, %peer, "no TLS session"),
    };
    let client = stream.get_ref().1.peer_certificates().and_then(|chain| common_name(chain.first()?));
    let service = service_fn(move |request| {
        let (node, pods, client) = (node.clone(), pods.clone(), client.clone());
        async move { Ok::<_, Infallible>(answer(&node, &pods, client.as_deref(), &request).await) }
    });
    if let Err(error) = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(text.into())).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("Content-Type", hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn answer(node: &Arc<Node>, pods: &Pods, client: Option<&str>, request: &Request<Incoming>) -> Response<Body> {
    let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    if path == ["healthz"] {
        return text(StatusCode::OK, "ok");
    }
    if client != Some(CLIENT) {
        let who = client
            .map_or("a client without a certificate of the cluster's CA".to_owned(), |name| format!("user \"{name}\""));
        return text(
            StatusCode::FORBIDDEN,
            format!("Forbidden: {who} may not use the node's API, only \"{CLIENT}\" may\n"),
        );
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    match path.as_slice() {
        ["pods"] => pod_list(pods),
        ["containerLogs", namespace, pod, container] => {
            let options = options(request.uri().query().unwrap_or_default());
            match options {
                Ok((options, previous)) => container_logs(node, pods, (namespace, pod, container), options, previous),
                Err(message) => text(StatusCode::BAD_REQUEST, message),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn pod_list(pods: &Pods) -> Response<Body> {
    let all = pods.all();
    let list = serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": all.iter().map(AsRef::as_ref).collect::<Vec<_>>()});
    let mut response = text(StatusCode::OK, list.to_string());
    response.headers_mut().insert("Content-Type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// The query of a log request, and whether it asks for the run before.
fn options(query: &str) -> Result<(Options, bool), String> {
    let (mut options, mut previous) = (Options::default(), false);
    let flag = |value: &str| value.is_empty() || value.eq_ignore_ascii_case("true") || value == "1";
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{key}: Invalid value: \"{value}\": must be greater than or equal to 0"))
        };
        match key {
            "follow" => options.follow = flag(value),
            "timestamps" => options.timestamps = flag(value),
            "previous" => previous = flag(value),
            "tailLines" => options.tail = Some(number()?),
            "limitBytes" => options.limit = Some(number()?),
            "sinceSeconds" => {
                let ago = SignedDuration::from_secs(i64::try_from(number()?).unwrap_or(i64::MAX / 4));
                options.since = Some(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN));
            }
            "sinceTime" => {
                let time = value.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+");
                options.since = Some(time.parse().map_err(|_| format!("sinceTime: Invalid value: \"{value}\""))?);
            }
            _ => {}
        }
    }
    Ok((options, previous))
}

/// The run whose log is asked for, or the status and the kubelet's words for why there is none.
fn choose(
    node: &Node,
    pods: &Pods,
    names: (&str, &str, &str),
    previous: bool,
) -> Result<Container, (StatusCode, String)> {
    let (namespace, name, container) = names;
    let Some(pod) = pods.find(namespace, name) else {
        return Err((
            StatusCode::NOT_FOUND,
            format!("pod \"{name}\" not found in namespace \"{namespace}\" on this node\n"),
        ));
    };
    let spec = pod.spec.as_ref();
    let known = spec.is_some_and(|spec| {
        spec.init_containers.iter().flatten().chain(&spec.containers).any(|one| one.name == container)
    });
    if !known {
        return Err((StatusCode::NOT_FOUND, format!("container {container} not found in pod {name}\n")));
    }
    let own = node.runtime.containers(pod.metadata.uid.as_deref());
    if previous {
        let before =
            plan::previous(&own, container).or_else(|| plan::latest(&own, container).filter(|one| one.exit.is_some()));
        return before.cloned().ok_or_else(|| {
            (
                StatusCode::BAD_REQUEST,
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found"),
            )
        });
    }
    let newest = plan::latest(&own, container).filter(|one| one.started_at.is_some());
    newest.cloned().ok_or_else(|| {
        let status = pod.status.clone().unwrap_or_default();
        let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
        let waiting = all.filter(|one| one.name == container).find_map(|one| one.state?.waiting?.reason);
        let reason = match waiting.as_deref() {
            Some("ErrImagePull") => "image can't be pulled",
            Some("ImagePullBackOff") => "trying and failing to pull image",
            Some(reason) => reason,
            None => "ContainerCreating",
        };
        (StatusCode::BAD_REQUEST, format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"))
    })
}

fn container_logs(
    node: &Arc<Node>,
    pods: &Pods,
    names: (&str, &str, &str),
    options: Options,
    previous: bool,
) -> Response<Body> {
    let container = match choose(node, pods, names, previous) {
        Ok(container) => container,
        Err((status, message)) => return text(status, message),
    };
    let (to, from) = mpsc::channel(16);
    let (node, id, uid) = (node.clone(), container.id.clone(), container.pod.uid.clone());
    std::thread::spawn(move || {
        let running =
            || node.runtime.containers(Some(&uid)).iter().any(|one| one.id == id && one.state == State::Running);
        if let Err(error) = logs::stream(&container.config.log_path, &options, running, &to) {
            // The answer has begun: its body is all that can still be written.
            let _ = to.blocking_send(Bytes::from(format!(
                "failed to read log {}: {error}\n",
                container.config.log_path.display()
            )));
        }
    });
    let frames = futures::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|bytes| (Ok(Frame::data(bytes)), from))
    });
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = BodyExt::boxed(StreamBody::new(frames));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Result<(Options, bool), &str>) {
        assert_eq!(options(query), expected.map_err(str::to_owned));
    }

    #[test]
    fn queries() {
        check("", Ok((Options::default(), false)));
        check(
            "follow=true&tailLines=5&timestamps=true",
            Ok((Options { follow: true, tail: Some(5), timestamps: true, ..Options::default() }, false)),
        );
        check("previous=true&limitBytes=10&other=1", Ok((Options { limit: Some(10), ..Options::default() }, true)));
        check(
            "sinceTime=2026-11-21T00%3A00%3A00Z",
            Ok((Options { since: "2026-11-21T00:00:00Z".parse().ok(), ..Options::default() }, false)),
        );
        check("tailLines=-1", Err("tailLines: Invalid value: \"-1\": must be greater than or equal to 0"));
    }
}
