//! HTTP for both roles: accept, health, and the way out on SIGTERM.
use std::{
    future::Future,
    io,
    net::{Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
};

/// Connections served at a time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;
/// The largest body that is read, in bytes.
const BODY: usize = 4096;
/// How long requests that are being answered may take when all others are over.
const LAST: Duration = Duration::from_secs(5);

/// How far the end is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// No longer ready; requests are served still, but each answer asks its client to connect anew, elsewhere.
    LameDuck,
    /// Nothing new is taken; what is being answered is finished.
    Closing,
}

/// A request, read whole.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) wants_json: bool,
    pub(crate) client: SocketAddr,
    pub(crate) body: Bytes,
}

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// One of the two roles.
pub(crate) trait App: Send + Sync {
    /// Answers everything but the health paths.
    fn answer(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}

/// An answer from its parts.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Serves until SIGTERM or SIGINT, then for `lame_duck` more with readiness failing, then finishes what is begun.
pub(crate) async fn until_terminated(port: u16, app: Arc<dyn App>, lame_duck: Duration) -> io::Result<()> {
    let listener = listen(port).await?;
    let (phase, phases) = watch::channel(Phase::Serving);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    eprintln!("guestbook: serving on port {port}");
    let accepting = tokio::spawn(accept(listener, app, phases, Arc::clone(&slots)));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    phase.send_replace(Phase::LameDuck);
    eprintln!("guestbook: told to end; no longer ready, serving {} s more", lame_duck.as_secs());
    tokio::time::sleep(lame_duck).await;
    accepting.abort();
    phase.send_replace(Phase::Closing);
    let all = u32::try_from(CONNECTIONS).expect("a small number");
    if tokio::time::timeout(LAST, slots.acquire_many(all)).await.is_err() {
        eprintln!("guestbook: answers were still under way after {} s", LAST.as_secs());
    }
    Ok(())
}

/// All addresses of both families where the machine has IPv6, else of IPv4.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn accept(listener: TcpListener, app: Arc<dyn App>, phases: watch::Receiver<Phase>, slots: Arc<Semaphore>) {
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, client)) => {
                let (app, phases) = (Arc::clone(&app), phases.clone());
                tokio::spawn(async move {
                    connection(stream, client, app, phases).await;
                    drop(slot);
                });
            }
            Err(error) => {
                eprintln!("guestbook: accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, app: Arc<dyn App>, mut phases: watch::Receiver<Phase>) {
    let phase = phases.clone();
    let service = service_fn(move |request| {
        let (app, phase) = (Arc::clone(&app), phase.clone());
        async move {
            let now = *phase.borrow();
            let mut answer = respond(request, client, &*app, now).await;
            if *phase.borrow() > Phase::Serving {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    // A connection that the client breaks off is the client's business.
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = phases.wait_for(|phase| *phase == Phase::Closing) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn respond(request: Request<Incoming>, client: SocketAddr, app: &dyn App, phase: Phase) -> Answer {
    let (parts, body) = request.into_parts();
    match parts.uri.path() {
        "/livez" => return answer(StatusCode::OK, "text/plain", "ok\n"),
        "/healthz" if phase == Phase::Serving => return answer(StatusCode::OK, "text/plain", "ok\n"),
        "/healthz" => return answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "ending\n"),
        _ => {}
    }
    let Ok(body) = Limited::new(body, BODY).collect().await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "at most 4096 bytes, please\n");
    };
    let accept = parts.headers.get(hyper::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = Asked {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        wants_json: accept.contains("application/json"),
        client,
        body: body.to_bytes(),
    };
    app.answer(asked).await
}
