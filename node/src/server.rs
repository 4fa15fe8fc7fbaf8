//! What the node serves on port 10250: its pods, their logs, commands in them and connections to them, to the API server
//! only.
//!
//! Paths are the kubelet's. `logs` answers; `stream` switches protocols (`handshake`: WebSocket or SPDY, `channels` and
//! `spdy`: how they carry streams) and connects a client to a process or (`forward`) to ports.
//!
//! TLS with a certificate of the cluster's CA; a client certificate of that CA with the API server's name is required for
//! everything but `/healthz`. There is no token review: nobody else has business here.

mod attach;
mod channels;
mod forward;
mod handshake;
mod logs;
mod pipe;
mod spdy;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::context::Node;
use crate::pods::Pods;

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
        async move { Ok::<_, Infallible>(answer(&node, &pods, client.as_deref(), request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
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

async fn answer(node: &Arc<Node>, pods: &Pods, client: Option<&str>, request: Request<Incoming>) -> Response<Body> {
    let (address, method) = (request.uri().clone(), request.method().clone());
    let path: Vec<&str> = address.path().trim_matches('/').split('/').collect();
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
    let query = address.query().unwrap_or_default();
    // A pod's uid may stand between its name and the container's, as in the kubelet's API; names are unique here.
    match (method, path.as_slice()) {
        (Method::GET, ["pods"]) => pod_list(pods),
        (Method::GET, ["containerLogs", namespace, pod, container]) => {
            logs::answer(node, pods, (namespace, pod, container), query)
        }
        (Method::GET | Method::POST, ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container]) => {
            stream::exec(node, pods, (namespace, pod, container), request)
        }
        (
            Method::GET | Method::POST,
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container],
        ) => stream::attach(node, pods, (namespace, pod, container), request),
        (Method::GET | Method::POST, ["portForward", namespace, pod] | ["portForward", namespace, pod, _]) => {
            stream::port_forward(node, pods, (namespace, pod), request)
        }
        (Method::POST, ["run", namespace, pod, container] | ["run", namespace, pod, _, container]) => {
            stream::run(node, pods, (namespace, pod, container), query).await
        }
        (
            _,
            ["pods"]
            | ["containerLogs", _, _, _]
            | ["exec" | "attach" | "run", _, _, _]
            | ["exec" | "attach" | "run", _, _, _, _]
            | ["portForward", _, _]
            | ["portForward", _, _, _],
        ) => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
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
