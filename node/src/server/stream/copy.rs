//! Between a client's streams and a process's: each direction ends by itself, and all of them when the client is gone.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::pipe::{Activity, Input, Output};
use crate::runtime::exec::{Reader, Size, Terminal, Writer};

/// Pieces of a process's output.
const PIECE: usize = 32 << 10;

/// Client to process, until either ends.
pub(super) async fn feed(input: Option<Input>, writer: Option<Writer>, activity: Activity) {
    let (Some(mut input), Some(mut writer)) = (input, writer) else { return };
    let copy = async {
        while let Some(data) = input.recv().await {
            if writer.write_all(&data).await.is_err() {
                // The process reads no more; what the client still sends is dropped.
                break;
            }
        }
        let _ = writer.shutdown().await;
        drop(writer);
        while input.recv().await.is_some() {}
    };
    tokio::select! {
        () = copy => {}
        () = activity.ended() => {}
    }
}

/// The client's window to the process's terminal.
pub(super) async fn follow_size(sizes: Option<Input>, terminal: Option<Terminal>, activity: Activity) {
    let (Some(mut sizes), Some(terminal)) = (sizes, terminal) else { return };
    let mut text = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = sizes.recv() => piece,
            () = activity.ended() => None,
        };
        let Some(piece) = piece else { return };
        // One message each in a WebSocket; lines in a stream of SPDY.
        text.extend_from_slice(&piece);
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Size>();
        for size in values.by_ref().map_while(Result::ok) {
            if let Err(error) = terminal.resize(size) {
                tracing::debug!(%error, "a terminal keeps its size");
            }
        }
        let read = values.byte_offset();
        text.drain(..read);
        if text.len() > 1024 {
            return; // No client's size is so long.
        }
    }
}

/// Process to client, until either ends.
pub(super) async fn drain(reader: Option<Reader>, output: Option<&Output>, activity: &Activity) {
    let (Some(mut reader), Some(output)) = (reader, output) else { return };
    let copy = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        while matches!(reader.read_buf(&mut buffer).await, Ok(count) if count > 0) {
            if output.send(buffer.split().freeze()).await.is_err() {
                return;
            }
            buffer.reserve(PIECE);
        }
    };
    tokio::select! {
        () = copy => {}
        () = activity.ended() => {}
    }
}
