//! Port-forward: each pair of streams is a TCP connection to the pod's own loopback address.
//!
//! Over SPDY the client opens a pair for each of its connections: `error` first, then `data`, with the port and a number
//! that they share in their headers. Over channels (the old WebSocket form) every port of the query has a pair from the
//! start, and is one connection.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channels;
use super::handshake::Transport;
use super::pipe::{Activity, Input, Output, Piece, QUEUE};
use super::spdy::{self, Stream};
use crate::runtime::Runtime;

/// Pieces of what the pod sends.
const PIECE: usize = 32 << 10;

/// The pod that is connected to.
pub(super) struct Target {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) sandbox: String,
    pub(super) pod: String,
    pub(super) uid: String,
}

/// The ports of the query; only the form with channels needs any.
pub(super) fn ports(query: &str, transport: Transport) -> Result<Vec<u16>, (StatusCode, String)> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let mut ports = Vec::new();
    for (_, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "port") {
        for text in value.split(',') {
            let port = text.parse().ok().filter(|port| *port != 0);
            ports.push(port.ok_or_else(|| bad(format!("unable to parse {text:?} as a port\n")))?);
        }
    }
    if ports.is_empty() && matches!(transport, Transport::Channels { .. }) {
        return Err(bad("query parameter \"port\" is required\n".to_owned()));
    }
    // A channel is a byte, and 255 is taken.
    if ports.len() > 100 {
        return Err(bad(format!("{} ports are too many for one connection, at most 100\n", ports.len())));
    }
    Ok(ports)
}

/// Serves a connection to its end.
pub(super) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    transport: Transport,
    ports: Vec<u16>,
    target: Arc<Target>,
) {
    let activity = Activity::default();
    tokio::spawn({
        let activity = activity.clone();
        async move { activity.watch().await }
    });
    match transport {
        Transport::Channels { form, .. } => over_channels(io, form, &ports, target, activity).await,
        Transport::Tunnel { .. } => {
            over_spdy(channels::tunnel(channels::accept(io).await), target, activity).await;
        }
        Transport::Spdy { .. } => over_spdy(io, target, activity).await,
    }
}

/// One connection to forward.
struct Pair {
    port: u16,
    input: Input,
    output: Output,
    error: Output,
    /// The client wants no more of it.
    reset: CancellationToken,
    /// Held, so that the connection's reader knows that the streams are in use.
    _streams: Option<(Arc<()>, Arc<()>)>,
}

async fn over_spdy(io: impl AsyncRead + AsyncWrite + Send + 'static, target: Arc<Target>, activity: Activity) {
    let (mut streams, pieces, writer) = spdy::start(io, activity.clone());
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = streams.recv().await {
        let id = stream.header("requestid").to_owned();
        let Some(other) = waiting.remove(&id) else {
            waiting.retain(|_, stream| !stream.reset.is_cancelled());
            waiting.insert(id, stream);
            continue;
        };
        let (data, error) = if stream.header("streamtype") == "data" { (stream, other) } else { (other, stream) };
        let port = data.header("port").parse().ok().filter(|port| *port != 0);
        let Some(port) = port else {
            refuse(&error.output, &data.output, format!("unable to parse {:?} as a port", data.header("port"))).await;
            continue;
        };
        let pair = Pair {
            port,
            input: data.input,
            output: data.output,
            error: error.output,
            reset: data.reset,
            _streams: Some((data.alive, error.alive)),
        };
        tokio::spawn(forward(pair, target.clone(), activity.clone()));
    }
    // The client is done; so are its connections.
    activity.end();
    drop(pieces);
    let _ = writer.await;
}

async fn refuse(error: &Output, data: &Output, message: String) {
    // A client that is gone does not ask why.
    let _ = error.send(Bytes::from(message)).await;
    error.close().await;
    data.close().await;
}

async fn over_channels(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    form: channels::Form,
    ports: &[u16],
    target: Arc<Target>,
    activity: Activity,
) {
    let mut inputs = HashMap::new();
    let mut pairs = Vec::new();
    for (channel, port) in (0_u8..).step_by(2).zip(ports) {
        let (to, input) = mpsc::channel(QUEUE);
        inputs.insert(channel, to);
        pairs.push((channel, *port, input));
    }
    let (pieces, writer) = channels::start(channels::accept(io).await, form, inputs, activity.clone());
    let mut running = tokio::task::JoinSet::new();
    for (channel, port, input) in pairs {
        let output = |channel: u8| Output::new(u32::from(channel), pieces.clone());
        let (output, error) = (output(channel), output(channel + 1));
        // Each channel begins with its port, in little-endian order.
        let greeting = Bytes::copy_from_slice(&port.to_le_bytes());
        if output.send(greeting.clone()).await.is_err() || error.send(greeting).await.is_err() {
            return;
        }
        let pair = Pair { port, input, output, error, reset: CancellationToken::new(), _streams: None };
        running.spawn(forward(pair, target.clone(), activity.clone()));
    }
    while running.join_next().await.is_some() {}
    let _ = pieces.send(Piece::Bye).await;
    let _ = writer.await;
}

async fn forward(pair: Pair, target: Arc<Target>, activity: Activity) {
    let Pair { port, input, output, error, reset, _streams } = pair;
    match target.runtime.connect(&target.sandbox, port).await {
        Ok(stream) => {
            tokio::select! {
                () = copy(stream, input, &output) => {}
                () = reset.cancelled() => {}
                () = activity.ended() => return,
            }
        }
        Err(cause) => {
            let message =
                format!("error forwarding port {port} to pod {}, uid {}: {}", target.pod, target.uid, cause.text());
            tracing::debug!("{message}");
            let _ = error.send(Bytes::from(message)).await;
        }
    }
    output.close().await;
    error.close().await;
}

/// Both directions to their ends; either may end before the other.
async fn copy(stream: TcpStream, mut input: Input, output: &Output) {
    let (mut reader, mut writer) = stream.into_split();
    let up = async move {
        while let Some(data) = input.recv().await {
            if writer.write_all(&data).await.is_err() {
                break;
            }
        }
        // Half closed: the pod reads its end. What it has closed itself cannot be closed again.
        let _ = writer.shutdown().await;
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        while matches!(reader.read_buf(&mut buffer).await, Ok(count) if count > 0) {
            if output.send(buffer.split().freeze()).await.is_err() {
                return;
            }
            buffer.reserve(PIECE);
        }
    };
    // Once the pod has closed, nothing that the client still sends can arrive.
    tokio::pin!(up);
    tokio::pin!(down);
    tokio::select! {
        () = &mut up => down.await,
        () = &mut down => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::channels::Form;
    use super::*;

    #[track_caller]
    fn check(query: &str, transport: Transport, expected: Option<&[u16]>) {
        assert_eq!(ports(query, transport).ok().as_deref(), expected, "{query}");
    }

    #[test]
    fn queries() {
        let channels = Transport::Channels { form: Form::Binary, protocol: "v4.channel.k8s.io" };
        check("port=80&port=443", channels, Some(&[80, 443]));
        check("port=80,443", channels, Some(&[80, 443]));
        check("", channels, None);
        check("port=0", channels, None);
        check("port=x", channels, None);
        check("", Transport::Spdy { protocol: "portforward.k8s.io" }, Some(&[]));
    }
}
