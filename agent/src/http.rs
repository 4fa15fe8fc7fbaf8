//! `/healthz`, `/readyz` and `/metrics`.
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::net::TcpListener;

use crate::{Shared, metrics};

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (given by --metrics-listen)")]
pub struct HttpError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listens and serves in the background.
///
/// # Errors
/// [`HttpError`].
pub async fn serve(shared: Arc<Shared>) -> Result<SocketAddr, HttpError> {
    let address = shared.args.metrics_listen;
    let listener = TcpListener::bind(address).await.map_err(|source| HttpError { address, source })?;
    let bound = listener.local_addr().map_err(|source| HttpError { address, source })?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let reply = answer(&shared, &request);
                    async { Ok::<_, Infallible>(reply) }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(bound)
}

fn answer<B>(shared: &Arc<Shared>, request: &Request<B>) -> Response<Full<Bytes>> {
    let reply = |status: StatusCode, kind: &str, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        if let Ok(kind) = kind.parse() {
            response.headers_mut().insert("content-type", kind);
        }
        response
    };
    const TEXT: &str = "text/plain; charset=utf-8";
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" | "/livez" => reply(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => match shared.not_ready() {
            reasons if reasons.is_empty() => reply(StatusCode::OK, TEXT, "ok\n".into()),
            reasons => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
        },
        "/metrics" => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            reply(StatusCode::OK, kind, metrics::text(shared))
        }
        _ => reply(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz and /metrics\n".into()),
    }
}
