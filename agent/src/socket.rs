//! The unix socket: CNI calls and people's questions, for root only.
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_api::v1::{agent_server::AgentServer, cni_server::CniServer};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::{Shared, answers::AgentService, cni::CniService};

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the socket {path}")]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Listens and serves in the background. A socket that an earlier agent left is taken over.
///
/// # Errors
/// [`SocketError`].
pub(crate) async fn serve(shared: Arc<Shared>) -> Result<(), SocketError> {
    let path = shared.args.socket.clone();
    let listener = listen(&path).map_err(|source| SocketError { path, source })?;
    let server = Server::builder()
        .add_service(CniServer::new(CniService(shared.clone())))
        .add_service(AgentServer::new(AgentService(shared)));
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(UnixListenerStream::new(listener)).await {
            tracing::error!(error = crate::chain(&error), "the socket is closed");
        }
    });
    Ok(())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
