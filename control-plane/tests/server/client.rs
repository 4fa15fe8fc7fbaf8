//! A server in this process, and the smallest client that can ask it anything.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control_plane::pki::Authority;
use control_plane::server::{Args, Running};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tempfile::TempDir;

/// A server, and its administrator's client.
pub(crate) struct Cluster {
    pub(crate) admin: Client,
    pub(crate) authority: Authority,
    running: Running,
    arguments: Args,
    directory: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// One with other flags.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Args)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut arguments = args(directory.path());
        change(&mut arguments);
        Self::open(directory, arguments).await
    }

    async fn open(directory: TempDir, arguments: Args) -> Self {
        let running = Running::start(&arguments).await.expect("a server");
        let authority = Authority::open(directory.path()).expect("the server's authority");
        let pair = authority.client("admin", &["system:masters".to_owned()]).expect("a certificate");
        let admin = Client::new(running.addresses[0], &authority.certificate, Some((&pair.certificate, &pair.key)));
        let root = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";
        admin.until(root, "the controllers have begun", |answer| answer.code == 200).await;
        Self { admin, authority, running, arguments, directory }
    }

    /// The same store under a new server.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same store under a new server with other flags.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Args)) -> Self {
        let (directory, mut arguments) = self.stop().await;
        change(&mut arguments);
        Self::open(directory, arguments).await
    }

    /// The store, and the flags that the server had.
    pub(crate) async fn stop(self) -> (TempDir, Args) {
        self.running.stop().await;
        (self.directory, self.arguments)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses[0]
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A client with a certificate of its own.
    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Client {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let pair = self.authority.client(name, &groups).expect("a certificate");
        Client::new(self.address(), &self.authority.certificate, Some((&pair.certificate, &pair.key)))
    }

    /// A client that shows no certificate.
    pub(crate) fn nobody(&self) -> Client {
        Client::new(self.address(), &self.authority.certificate, None)
    }
}

pub(crate) fn args(directory: &Path) -> Args {
    Args {
        data_dir: directory.to_owned(),
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        listen_fd: Vec::new(),
        advertise_address: "192.0.2.1".parse().expect("an address"),
        tls_san: vec!["192.0.2.2".parse().expect("an address")],
        service_cidr: "10.96.0.0/16".parse().expect("a range"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        node_cidr_mask_size: 24,
        node_cidr_mask_size_ipv6: 64,
        service_node_port_range: (30000, 32767),
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that must have this code.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    /// The message of a refusal that must have this code.
    #[track_caller]
    pub(crate) fn refused(self, code: u16) -> String {
        self.expect(code)["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client: one connection per request.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    headers: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, ca: &str, pair: Option<(&str, &str)>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("a CA");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_root_certificates(roots);
        let config = match pair {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        Self { address, config: Arc::new(config), headers: Vec::new() }
    }

    /// The same client with one more header on every request.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name, value.to_owned()));
        client
    }

    pub(crate) async fn open(&self, method: &str, path: &str, body: Option<&Value>) -> Response<Incoming> {
        let mut session = self.session().await.expect("a connection");
        session.open(method, path, body).await.expect("an answer")
    }

    /// A connection for many requests, of a client that outlives its server.
    pub(crate) async fn session(&self) -> Result<Session, Gone> {
        let tcp = tokio::net::TcpStream::connect(self.address).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        let tls = connector.connect(ServerName::from(self.address.ip()), tcp).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Session { sender, headers: self.headers.clone() })
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        answer(self.open(method, path, body).await).await.expect("a body")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, Some(&body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask("PUT", path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, None).await
    }

    /// A patch of kind `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&self, kind: &str, path: &str, body: Value) -> Answer {
        let media = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            _ => "application/strategic-merge-patch+json",
        };
        self.with("content-type", media).ask("PATCH", path, Some(&body)).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Events {
        let answer = self.open("GET", path, None).await;
        let code = answer.status().as_u16();
        let mut events = Events { body: answer.into_body(), buffer: Vec::new() };
        if code != 200 {
            let refusal = events.line().await;
            panic!("{code} for {path}: {refusal:?}");
        }
        events
    }

    /// Asks until `done` says so.
    pub(crate) async fn until(&self, path: &str, what: &str, done: impl Fn(&Answer) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.get(path).await;
            if done(&answer) {
                return answer.body;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The server went away before it had answered.
#[derive(Debug)]
pub(crate) struct Gone;

impl<E: std::error::Error> From<E> for Gone {
    fn from(_why: E) -> Self {
        Self
    }
}

/// One connection.
pub(crate) struct Session {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    headers: Vec<(&'static str, String)>,
}

impl Session {
    async fn open(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Response<Incoming>, Gone> {
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if method == "PATCH" && self.headers.is_empty() {
            request = request.header("content-type", "application/merge-patch+json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Gone> {
        answer(self.open(method, path, body).await?).await
    }

    /// A watch, on the connection that is then its own; the refusal when it is refused.
    pub(crate) async fn watch(mut self, path: &str) -> Result<Result<Events, Answer>, Gone> {
        let reply = self.open("GET", path, None).await?;
        if reply.status() == 200 {
            return Ok(Ok(Events { body: reply.into_body(), buffer: Vec::new() }));
        }
        Ok(Err(answer(reply).await?))
    }
}

async fn answer(reply: Response<Incoming>) -> Result<Answer, Gone> {
    let (parts, body) = reply.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_not_json| text());
    Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
}

/// A watch's events.
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    async fn line(&mut self) -> Option<Vec<u8>> {
        self.piece().await.expect("a frame")
    }

    /// The next event's type and object, as long as the server lives.
    pub(crate) async fn try_next(&mut self) -> Result<(String, Value), Gone> {
        let line = self.piece().await?.ok_or(Gone)?;
        // A line cut short by the server's death is none.
        let mut event: Value = serde_json::from_slice(&line)?;
        Ok((event["type"].as_str().expect("a type").to_owned(), event["object"].take()))
    }

    async fn piece(&mut self) -> Result<Option<Vec<u8>>, Gone> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            match self.body.frame().await {
                Some(frame) => self.buffer.extend(frame?.into_data().unwrap_or_default()),
                None => return Ok(Some(std::mem::take(&mut self.buffer)).filter(|rest| !rest.is_empty())),
            }
        }
    }

    /// The next event's type and object.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        let line = tokio::time::timeout(Duration::from_secs(20), self.line()).await.expect("an event in time");
        let mut event: Value = serde_json::from_slice(&line.expect("the watch goes on")).expect("JSON");
        (event["type"].as_str().expect("a type").to_owned(), event["object"].take())
    }

    /// The next event's type and the object's name.
    pub(crate) async fn brief(&mut self) -> String {
        let (kind, object) = self.next().await;
        format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// Whether the server ends the watch.
    pub(crate) async fn ends(mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(20), self.line()).await.expect("an end in time").is_none()
    }
}
