//! The way to a node's :10250, with the server's own client certificate.
//!
//! The node's certificate must be of the cluster's CA and name the address that the Node object gives.
use std::net::IpAddr;
use std::sync::Arc;

use api::path;
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const PORT: u16 = 10250;

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Node object names no address.
    #[error("the node {node} has no address")]
    NoAddress {
        /// The node.
        node: String,
    },
    /// No connection.
    #[error("dial tcp {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The node did not answer.
    #[error("Get \"https://{address}{path}\": {source}")]
    Request {
        /// Whom.
        address: String,
        /// What for.
        path: String,
        /// The cause.
        source: hyper::Error,
    },
    /// The path cannot stand in a request.
    #[error("the path is not valid")]
    Path(#[from] http::Error),
}

/// The client.
pub struct Kubelet {
    connector: TlsConnector,
}

impl Kubelet {
    /// With the client certificate in `config`.
    pub fn new(config: Arc<rustls::ClientConfig>) -> Self {
        Self { connector: TlsConnector::from(config) }
    }

    /// GET of a path, answered as a stream.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub async fn get(&self, node: &Value, path: &str) -> Result<Response<Incoming>, Error> {
        self.ask(node, path, HeaderMap::new()).await
    }

    /// GET of a path with headers that ask for another protocol; what was switched is in the answer.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub async fn upgrade(&self, node: &Value, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, Error> {
        self.ask(node, path, headers).await
    }

    async fn ask(&self, node: &Value, path: &str, headers: HeaderMap) -> Result<Response<Incoming>, Error> {
        let (ip, port) =
            address_of(node).ok_or_else(|| Error::NoAddress { node: path::str(node, "metadata.name").to_owned() })?;
        let address = std::net::SocketAddr::new(ip, port).to_string();
        let connect = |source| Error::Connect { address: address.clone(), source };
        let stream = TcpStream::connect((ip, port)).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let stream = self.connector.connect(ServerName::from(ip), stream).await.map_err(connect)?;
        let failed = |source| Error::Request { address: address.clone(), path: path.to_owned(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a node ended");
            }
        });
        let mut request = Request::get(path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, HeaderValue::from_str(&address).map_err(http::Error::from)?);
        sender.send_request(request).await.map_err(failed)
    }
}

/// The node's address and port: its internal one before others.
fn address_of(node: &Value) -> Option<(IpAddr, u16)> {
    let addresses = path::list(node, "status.addresses");
    let of = |kind: &str| {
        addresses
            .iter()
            .find(|known| path::str(known, "type") == kind)
            .and_then(|known| path::str(known, "address").parse().ok())
    };
    let address = of("InternalIP").or_else(|| of("ExternalIP"))?;
    let port = path::int(node, "status.daemonEndpoints.kubeletEndpoint.Port").and_then(|port| u16::try_from(port).ok());
    Some((address, port.filter(|&port| port != 0).unwrap_or(PORT)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::address_of;

    #[track_caller]
    fn check(node: &Value, expected: Option<&str>) {
        assert_eq!(address_of(node).map(|(ip, port)| format!("{ip}:{port}")).as_deref(), expected);
    }

    #[test]
    fn the_internal_address_is_asked() {
        let addresses = json!([{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
        check(&json!({"status": {"addresses": addresses}}), Some("10.0.0.1:10250"));
        let endpoints = json!({"kubeletEndpoint": {"Port": 1234}});
        check(&json!({"status": {"addresses": addresses, "daemonEndpoints": endpoints}}), Some("10.0.0.1:1234"));
        let dual = json!([{"type": "InternalIP", "address": "fd00::1"}, {"type": "InternalIP", "address": "10.0.0.1"}]);
        check(&json!({"status": {"addresses": dual}}), Some("fd00::1:10250"));
        check(&json!({"status": {}}), None);
    }
}
