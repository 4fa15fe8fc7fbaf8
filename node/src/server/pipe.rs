//! What every stream of a client is to the code behind it, whichever protocol carries it.
//!
//! An [`Input`] yields bytes until the client has ended it. An [`Output`] takes bytes and is awaited while the client is
//! slow: queues are short, so that a client costs a bounded amount of memory and a process that writes faster than its
//! client reads is held up by its own pipe. [`Activity`] ends connections: by either side, or after four idle hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Pieces that wait in a direction of a stream; each is at most 32 KiB, or one WebSocket message.
pub(super) const QUEUE: usize = 8;
/// A connection on which nothing passes for so long is closed, as the kubelet does.
const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a client may take to close a connection that we have closed.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// What the client sends on a stream; ends when the client has closed it or is gone.
pub(super) type Input = mpsc::Receiver<Bytes>;

/// What the one writer of a connection writes.
#[derive(Debug)]
pub(super) enum Piece {
    /// On a stream or channel.
    Data(u32, Bytes),
    /// Nothing more comes on it.
    End(u32),
    /// A stream of the peer is taken.
    Accept(u32),
    /// A stream of the peer is not taken.
    Reset(u32),
    /// Answers a ping.
    Pong(u32),
    /// The last word: close the connection.
    Bye,
}

/// The client is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// A stream to the client.
#[derive(Clone, Debug)]
pub(super) struct Output {
    id: u32,
    pieces: mpsc::Sender<Piece>,
}

impl Output {
    pub(super) fn new(id: u32, pieces: mpsc::Sender<Piece>) -> Self {
        Self { id, pieces }
    }

    /// Waits until there is room.
    pub(super) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.pieces.send(Piece::Data(self.id, data)).await.map_err(|_| Gone)
    }

    /// Nothing more comes.
    pub(super) async fn close(&self) {
        // A client that is gone knows.
        let _ = self.pieces.send(Piece::End(self.id)).await;
    }
}

/// The life of a connection.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    end: CancellationToken,
    start: Instant,
    /// Milliseconds after `start`.
    last: Arc<AtomicU64>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { end: CancellationToken::new(), start: Instant::now(), last: Arc::default() }
    }
}

impl Activity {
    /// Something has passed.
    pub(super) fn touch(&self) {
        self.last.store(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The connection is over.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    /// Waits for the connection's end.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Ends the connection once it has been idle for too long; returns when it has ended.
    pub(super) async fn watch(&self) {
        loop {
            let due = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + IDLE;
            if due <= Instant::now() {
                tracing::info!("a connection is closed: nothing passed for {} s", IDLE.as_secs());
                return self.end();
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.ended() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_ends_for_everybody() {
        let activity = Activity::default();
        activity.touch();
        let watcher = tokio::spawn({
            let activity = activity.clone();
            async move { activity.watch().await }
        });
        activity.end();
        watcher.await.expect("the watch ends with the connection");
        activity.ended().await;
    }
}
