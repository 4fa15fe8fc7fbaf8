//! `weft publish`: from a port on the host's 127.0.0.1 to a NodePort, byte for byte.
//!
//! Runs in the "outside" namespace with listeners that were opened on the host, so the host needs no route into the
//! fabric. The NodePort sees the outside namespace's address as its client. Also holds that namespace: it runs even if
//! nothing is published.

use std::{io, net::SocketAddr, os::fd::RawFd, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use crate::handoff;

/// Flags of `weft publish`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A listener and where its connections go: FD=IP:PORT
    #[arg(long = "map", value_parser = parse_map)]
    maps: Vec<(RawFd, SocketAddr)>,
}

/// What failed in the publisher.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// tokio.
    #[error("starting the runtime")]
    Runtime(#[source] io::Error),
    /// A descriptor that is no listener.
    #[error("taking over listener {0}")]
    Listener(RawFd, #[source] io::Error),
}

fn parse_map(text: &str) -> Result<(RawFd, SocketAddr), String> {
    let (fd, to) = text.split_once('=').ok_or("expected FD=IP:PORT")?;
    Ok((fd.parse().map_err(|_| "FD is no number")?, to.parse().map_err(|_| "expected IP:PORT after =")?))
}

/// Serves until killed.
pub fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        for (fd, to) in args.maps.iter().copied() {
            let listener = listener(fd).map_err(|source| Error::Listener(fd, source))?;
            tokio::spawn(serve(listener, to));
        }
        std::future::pending().await
    })
}

fn listener(fd: RawFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(handoff::take(fd)?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => _ = tokio::spawn(relay(client, to)),
            Err(error) => {
                // Out of descriptors, mostly: they come back as connections end.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr) {
    let connect = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(to));
    match connect.await {
        Ok(Ok(mut server)) => _ = tokio::io::copy_bidirectional(&mut client, &mut server).await,
        Ok(Err(error)) => tracing::debug!(%to, %error, "connect"),
        Err(_) => tracing::debug!(%to, "no answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, good: bool) {
        assert_eq!(parse_map(text).is_ok(), good, "{text}");
    }

    #[test]
    fn maps() {
        check("7=172.31.0.11:30080", true);
        check("7", false);
        check("x=1.2.3.4:5", false);
        check("7=host:5", false);
    }
}
