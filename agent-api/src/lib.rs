//! The agent's gRPC on its unix socket: messages, client and server, generated from `proto/agent.proto`.
//!
//! The CNI plugin and `weft status|monitor|table|pod|flow` are its clients; the agent is its only server. Nothing else
//! is decided here.
use std::{
    io,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

pub use v1::{agent_client::AgentClient, cni_client::CniClient};

/// Where the agent listens if nothing else is said.
pub const SOCKET: &str = "/run/weft/agent.sock";

/// CNI error codes: the specification's ("Error", codes 1 to 99) and our own (100 and up).
pub mod code {
    /// The version of the configuration is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is not known or gone.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A CNI_ variable is missing or wrong.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// Standard input is no JSON of the right shape.
    pub const DECODE: u32 = 6;
    /// The configuration contradicts itself or us.
    pub const INVALID_CONFIG: u32 = 7;
    /// The agent is absent, hung or not ready: the runtime should try again.
    pub const TRY_LATER: u32 = 11;
    /// STATUS: an ADD would not succeed now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: as above, and what pods with an interface reach may be out of date.
    pub const LIMITED: u32 = 51;
    /// No address is left in the node's range.
    pub const NO_ADDRESS: u32 = 100;
    /// The pod is not known to the API server, or not on this node.
    pub const UNKNOWN_POD: u32 = 101;
    /// The kernel refused a device, an address or a route.
    pub const KERNEL: u32 = 102;
    /// CHECK: something differs from what ADD made.
    pub const DIFFERS: u32 = 103;
    /// An address or a host port that was asked for is somebody else's.
    pub const TAKEN: u32 = 104;
}

/// The generated messages, clients and servers.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the proto has the words"
)]
pub mod v1 {
    tonic::include_proto!("weft.agent.v1");
}

/// The agent cannot be reached on its socket.
#[derive(Debug)]
pub struct Unreachable {
    /// The socket.
    pub socket: PathBuf,
    source: tonic::transport::Error,
}

impl Unreachable {
    /// What the system said, if it was the system.
    fn kind(&self) -> Option<io::ErrorKind> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&self.source);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error.kind());
            }
            next = error.source();
        }
        None
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let socket = self.socket.display();
        match self.kind() {
            Some(io::ErrorKind::NotFound) => write!(f, "there is no {socket}: is `weft agent` running on this node?"),
            Some(io::ErrorKind::ConnectionRefused) => {
                write!(f, "nobody listens at {socket}: is `weft agent` running on this node?")
            }
            Some(io::ErrorKind::PermissionDenied) => {
                write!(f, "no permission for {socket}: the agent's socket is for root only (sudo)")
            }
            _ => write!(f, "cannot reach the agent at {socket}"),
        }
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The three that `Display` knows have their reason in its words.
        let told = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
        if self.kind().is_some_and(|kind| told.contains(&kind)) { None } else { Some(&self.source) }
    }
}

/// Connects to the agent's socket; the channel serves [`AgentClient::new`] and [`CniClient::new`].
///
/// # Errors
/// [`Unreachable`] when nobody accepts there. It does not wait: callers with a deadline wrap it.
pub async fn connect(socket: impl AsRef<Path>) -> Result<Channel, Unreachable> {
    let socket = socket.as_ref().to_path_buf();
    let path = socket.clone();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
    });
    // The authority is never resolved: the connector above knows where to go.
    Endpoint::from_static("http://weft-agent")
        .connect_with_connector(connector)
        .await
        .map_err(|source| Unreachable { socket, source })
}
