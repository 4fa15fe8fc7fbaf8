//! One HTTP GET, for probes and lifecycle hooks: no proxy, no verification of certificates, as the kubelet does it.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Target {
    /// As messages name it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}:{}{}", if self.https { "https" } else { "http" }, bracketed(&self.host), self.port, self.path)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The status and the first 10 KiB of the body, or why there is none in the words of Go's client.
pub(crate) async fn get(target: &Target, timeout: Duration) -> Result<(StatusCode, String), String> {
    let named = |error: String| format!("Get \"{}\": {error}", target.url());
    match tokio::time::timeout(timeout, exchange(target)).await {
        Ok(result) => result.map_err(named),
        Err(_) => Err(named("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())),
    }
}

/// A TCP connection, or why there is none in the words of Go's dialer.
pub(crate) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let address = format!("{}:{port}", bracketed(host));
    TcpStream::connect(&address).await.map_err(|error| {
        let text = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: connect: {text}")
    })
}

async fn exchange(target: &Target) -> Result<(StatusCode, String), String> {
    let stream = dial(&target.host, target.port).await?;
    if !target.https {
        return request(stream, target).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(unverified()));
    request(connector.connect(name, stream).await.map_err(|error| error.to_string())?, target).await
}

async fn request<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    target: &Target,
) -> Result<(StatusCode, String), String> {
    let text = |error: hyper::Error| {
        if error.is_incomplete_message() || error.is_canceled() { "EOF".to_owned() } else { error.to_string() }
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(&target.path).header("Connection", "close");
    let has = |name: &str| target.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let host = format!("{}:{}", bracketed(&target.host), target.port);
    for (name, value) in [("User-Agent", "kube-probe/1.36"), ("Accept", "*/*"), ("Host", host.as_str())] {
        if !has(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    let result = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let mut body = http_body_util::Limited::new(response.into_body(), 10 * 1024);
        let mut said = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            said.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    }
    .await;
    connection.abort();
    result
}

/// A probe asks whether something answers, not who: the kubelet skips verification too.
#[derive(Debug)]
struct Unverified(Arc<rustls::crypto::CryptoProvider>);

fn unverified() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth()
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(host: &str, reply: &'static str) -> Target {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.expect("a request");
            assert!(request[..count].starts_with(b"GET /healthz?a=1 HTTP/1.1\r\n"));
            stream.write_all(reply.as_bytes()).await.expect("a reply");
        });
        Target {
            https: false,
            host: host.into(),
            port,
            path: "/healthz?a=1".into(),
            headers: vec![("X-A".into(), "b".into())],
        }
    }

    /// `written` is the host as URLs and Go's dialer write it.
    async fn check(host: &str, written: &str) {
        let target = answer(host, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno").await;
        let (status, body) = get(&target, Duration::from_secs(5)).await.expect("an answer");
        assert_eq!((status.as_u16(), body.as_str()), (503, "no"));
        let free = TcpListener::bind((host, 0)).await.expect("a port").local_addr().expect("address").port();
        let target = Target { port: free, ..target };
        let error = get(&target, Duration::from_secs(5)).await.expect_err("nobody listens");
        let dial = format!("dial tcp {written}:{free}: connect: connection refused");
        assert_eq!(error, format!("Get \"http://{written}:{free}/healthz?a=1\": {dial}"));
    }

    #[tokio::test]
    async fn statuses_and_refusals() {
        check("127.0.0.1", "127.0.0.1").await;
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            check("::1", "[::1]").await;
        } else {
            eprintln!("SKIPPED: this machine has no IPv6 loopback address");
        }
    }
}
