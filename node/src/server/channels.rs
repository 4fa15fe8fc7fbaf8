//! Channels in WebSocket messages: `v5.channel.k8s.io`, `v4.channel.k8s.io`, and the base64 form of the latter.
//!
//! The first byte of a message is its channel (in the base64 forms a digit, and the message is text). Version 5 has one
//! more: channel 255, whose second byte names a channel that the client has closed; that is how standard input ends.
//! SPDY in a WebSocket is [`tunnel`].

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use super::pipe::{Activity, LINGER, Piece};
use super::spdy::next;

/// Of a client's message. kubectl's are 32 KiB.
const MAX_MESSAGE: usize = 4 << 20;
/// A channel that says which other channel is closed.
const CLOSE: u8 = 255;

/// How a message carries its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Base64,
}

impl Form {
    fn message(self, channel: u32, data: &[u8]) -> Message {
        let channel = u8::try_from(channel).unwrap_or(CLOSE);
        match self {
            Self::Binary => {
                let mut bytes = BytesMut::with_capacity(data.len() + 1);
                bytes.put_u8(channel);
                bytes.put_slice(data);
                Message::Binary(bytes.freeze())
            }
            Self::Base64 => Message::Text(format!("{channel}{}", STANDARD.encode(data)).into()),
        }
    }

    /// Channel and data of a client's message; `None` if it is not of this form.
    fn read(self, message: Message) -> Option<(u8, Bytes)> {
        match (self, message) {
            (Self::Base64, Message::Text(text)) => {
                let (digit, data) = text.as_str().split_at_checked(1)?;
                Some((digit.parse().ok()?, STANDARD.decode(data).ok()?.into()))
            }
            (Self::Binary, Message::Binary(mut data)) if !data.is_empty() => {
                let channel = data.split_to(1)[0];
                Some((channel, data))
            }
            _ => None,
        }
    }
}

/// A server's end of a WebSocket whose handshake is done.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Starts both directions: what comes on a channel of `inputs` goes there, what is sent as a piece goes to the client.
pub(super) fn start(
    socket: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    form: Form,
    mut inputs: HashMap<u8, mpsc::Sender<Bytes>>,
    activity: Activity,
) -> (mpsc::Sender<Piece>, tokio::task::JoinHandle<()>) {
    let (pieces, outgoing) = mpsc::channel(super::pipe::QUEUE);
    let (sink, mut source) = socket.split();
    let reading = activity.clone();
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                message = source.next() => message,
                () = reading.ended() => break,
            };
            let message = match message {
                Some(Ok(Message::Close(_))) | None => break,
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a WebSocket ended early");
                    break;
                }
            };
            reading.touch();
            match form.read(message) {
                Some((CLOSE, channel)) => drop(channel.first().and_then(|channel| inputs.remove(channel))),
                Some((channel, data)) => {
                    if let Some(to) = inputs.get(&channel) {
                        // Nobody reads it any more: it is dropped, as upstream drops it.
                        let _ = to.send(data).await;
                    }
                }
                // Pings are answered by the socket itself.
                None => {}
            }
        }
        reading.end();
    });
    let writer = tokio::spawn(async move {
        match write(sink, outgoing, form, &activity).await {
            Ok(()) => drop(tokio::time::timeout(LINGER, activity.ended()).await),
            Err(error) => tracing::debug!(%error, "a WebSocket cannot be written to"),
        }
        activity.end();
    });
    (pieces, writer)
}

type Sink<S> = SplitSink<WebSocketStream<S>, Message>;

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    mut sink: Sink<S>,
    mut pieces: mpsc::Receiver<Piece>,
    form: Form,
    activity: &Activity,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    while let Some(piece) = next(&mut pieces, activity).await {
        activity.touch();
        match piece {
            Piece::Data(channel, data) => sink.send(form.message(channel, &data)).await?,
            Piece::Bye => break,
            // The server's channels end with the connection.
            Piece::End(_) | Piece::Accept(_) | Piece::Reset(_) | Piece::Pong(_) => {}
        }
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    sink.send(Message::Close(Some(close))).await
}

/// What passes through the WebSocket as binary messages, as one stream of bytes.
pub(super) fn tunnel(socket: WebSocketStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut sink, mut source) = socket.split();
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(data) if to.write_all(&data).await.is_err() => break,
                Message::Close(_) => break,
                _ => {}
            }
        }
        // The near side reads its end.
        let _ = to.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = BytesMut::with_capacity(32 << 10);
        while matches!(from.read_buf(&mut buffer).await, Ok(count) if count > 0) {
            if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(32 << 10);
        }
        // A client that is gone needs no farewell.
        let _ = sink.send(Message::Close(None)).await;
    });
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, message: Message, expected: Option<(u8, &[u8])>) {
        assert_eq!(form.read(message), expected.map(|(channel, data)| (channel, Bytes::copy_from_slice(data))));
    }

    #[test]
    fn messages() {
        check(Form::Binary, Message::Binary(Bytes::from_static(b"\0ls\n")), Some((0, b"ls\n")));
        check(Form::Binary, Message::Binary(Bytes::from_static(b"\xff\0")), Some((CLOSE, b"\0")));
        check(Form::Binary, Message::Binary(Bytes::new()), None);
        check(Form::Binary, Message::Text("0bHM=".into()), None);
        check(Form::Base64, Message::Text("4e30=".into()), Some((4, b"{}")));
        check(Form::Base64, Message::Text("".into()), None);
        check(Form::Base64, Message::Text("ä".into()), None);
        assert_eq!(Form::Binary.message(1, b"x"), Message::Binary(Bytes::from_static(b"\x01x")));
        assert_eq!(Form::Base64.message(3, b"{}"), Message::Text("3e30=".into()));
    }

    #[tokio::test]
    async fn version_5_ends_standard_input_alone() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (to, mut stdin) = mpsc::channel(1);
        let (pieces, writer) = start(accept(server).await, Form::Binary, HashMap::from([(0, to)]), Activity::default());
        client.send(Message::Binary(Bytes::from_static(b"\0in"))).await.expect("sent");
        client.send(Message::Binary(Bytes::from_static(b"\xff\0"))).await.expect("sent");
        assert_eq!(stdin.recv().await.as_deref(), Some(&b"in"[..]));
        assert_eq!(stdin.recv().await, None);
        pieces.send(Piece::Data(1, Bytes::from_static(b"out"))).await.expect("the writer lives");
        pieces.send(Piece::Bye).await.expect("the writer lives");
        let message = client.next().await.expect("a message").expect("a message");
        assert_eq!(message, Message::Binary(Bytes::from_static(b"\x01out")));
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        assert!(client.next().await.is_none_or(|end| end.is_err()));
        writer.await.expect("the writer ends");
    }
}
