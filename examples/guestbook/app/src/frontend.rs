//! The frontend: asks the backend's Service for the entries and shows them, as a page or as JSON.
use std::{future::Future, pin::Pin, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{HeaderValue, LOCATION},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{
    Place,
    backend::Entries,
    page,
    serve::{self, Answer, App, Asked},
};

/// How long the backend may take, connection included.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Frontend {
    place: Place,
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What a client that accepts JSON gets.
#[derive(serde::Serialize)]
struct Report<'a> {
    frontend: &'a Place,
    client: String,
    backend: &'a Entries,
}

impl Frontend {
    pub(crate) fn new(place: Place, host: &str, port: u16) -> Frontend {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        // No connection is kept: each request may meet another backend, and the page shows which.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Frontend { place, url: format!("http://{host}:{port}/entries"), client }
    }

    async fn respond(&self, asked: Asked) -> Answer {
        if asked.path != "/" {
            return serve::answer(StatusCode::NOT_FOUND, "text/plain", "only / is here\n");
        }
        let posted = asked.method == Method::POST;
        let body = if posted { page::form_value(&asked.body, "message") } else { String::new() };
        match tokio::time::timeout(PATIENCE, self.backend(posted, body)).await {
            Ok(Ok(_)) if posted => see_other(),
            Ok(Ok(entries)) => self.show(&asked, &entries),
            Ok(Err(problem)) => self.fail(&problem),
            Err(_) => self.fail("no answer within 3 s"),
        }
    }

    async fn backend(&self, post: bool, body: String) -> Result<Entries, String> {
        let request = Request::builder()
            .method(if post { Method::POST } else { Method::GET })
            .uri(&self.url)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("BACKEND_SERVICE_HOST or BACKEND_SERVICE_PORT is not usable: {error}"))?;
        let response = self.client.request(request).await.map_err(|error| describe(&error))?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| format!("it answered something else: {error}"))
    }

    fn show(&self, asked: &Asked, entries: &Entries) -> Answer {
        let client = asked.client.ip().to_canonical().to_string();
        if asked.wants_json {
            let report = Report { frontend: &self.place, client, backend: entries };
            let body = serde_json::to_vec(&report).expect("strings always serialise");
            return serve::answer(StatusCode::OK, "application/json", body);
        }
        serve::answer(StatusCode::OK, "text/html; charset=utf-8", page::show(&self.place, &client, entries))
    }

    fn fail(&self, problem: &str) -> Answer {
        eprintln!("guestbook: the backend at {} failed: {problem}", self.url);
        let body = page::failure(&self.place, &self.url, problem);
        serve::answer(StatusCode::BAD_GATEWAY, "text/html; charset=utf-8", body)
    }
}

/// The innermost cause is the one that tells: "connection refused" rather than "client error (Connect)".
fn describe(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn see_other() -> Answer {
    let mut answer = serve::answer(StatusCode::SEE_OTHER, "text/plain", "");
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    answer
}

impl App for Frontend {
    fn answer(&self, asked: Asked) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(self.respond(asked))
    }
}
