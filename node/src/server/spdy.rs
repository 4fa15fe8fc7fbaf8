//! SPDY/3.1, as far as streaming needs it: kubectl's port-forward tunnels it through a WebSocket, older ones speak it bare.
//!
//! The peer is moby/spdystream: it opens every stream, names it by headers, and knows no flow-control windows; a reader
//! that is too slow is felt through the connection itself. Frames are in [`frame`], header blocks in [`headers`]. A
//! [`Stream`] ends like a socket: its input when the peer has said FIN or RST, its output when it is closed.

mod frame;
mod headers;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pipe::{Activity, Input, LINGER, Output, Piece, QUEUE};
use frame::{Control, FIN, Head, Kind};
use headers::{Deflater, Inflater};

/// Streams of one connection that may be open at once; a connection that is forwarded needs two.
const MAX_STREAMS: usize = 2048;
/// A frame of control is never longer: header blocks here are three short pairs.
const MAX_CONTROL: usize = 64 << 10;
/// Data is passed on in pieces of at most this.
const MAX_PIECE: usize = 32 << 10;

/// A stream that the peer has opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// What the peer sends.
    pub(super) input: Input,
    /// To the peer.
    pub(super) output: Output,
    /// Cancelled when the peer has reset the stream.
    pub(super) reset: CancellationToken,
    /// Held by whoever uses the stream: the connection's reader forgets streams that nobody holds.
    pub(super) alive: Arc<()>,
}

/// What the reader of a connection knows of a stream.
struct Open {
    /// Where its data goes, until its FIN.
    to: Option<mpsc::Sender<Bytes>>,
    reset: CancellationToken,
    /// Whether somebody still holds the [`Stream`].
    alive: Weak<()>,
}

impl Stream {
    /// A header's value; empty when it is missing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Starts both directions of a connection; the streams come out of the receiver, which ends with the connection.
pub(super) fn start(
    io: impl AsyncRead + AsyncWrite + Send + 'static,
    activity: Activity,
) -> (mpsc::Receiver<Stream>, mpsc::Sender<Piece>, tokio::task::JoinHandle<()>) {
    let (reader, writer) = tokio::io::split(io);
    let (opened, streams) = mpsc::channel(QUEUE);
    let (pieces, outgoing) = mpsc::channel(QUEUE);
    let mut session = Session {
        reader: BufReader::with_capacity(MAX_PIECE, reader),
        inflater: Inflater::new(),
        open: HashMap::new(),
        opened,
        pieces: pieces.clone(),
        activity: activity.clone(),
    };
    tokio::spawn(async move {
        let gone = session.activity.clone();
        if let Err(error) = session.read().await {
            tracing::debug!(%error, "a SPDY connection ended early");
        }
        gone.end();
    });
    let writer = tokio::spawn(async move {
        match write(writer, outgoing, &activity).await {
            // The peer has the last word: closing over what it still sends could reset what it has yet to read.
            Ok(()) => drop(tokio::time::timeout(LINGER, activity.ended()).await),
            Err(error) => tracing::debug!(%error, "a SPDY connection cannot be written to"),
        }
        activity.end();
    });
    (streams, pieces, writer)
}

struct Session<R> {
    reader: BufReader<R>,
    inflater: Inflater,
    open: HashMap<u32, Open>,
    opened: mpsc::Sender<Stream>,
    pieces: mpsc::Sender<Piece>,
    activity: Activity,
}

impl<R: AsyncRead + Unpin> Session<R> {
    async fn read(&mut self) -> io::Result<()> {
        loop {
            let mut head = [0; Head::LENGTH];
            tokio::select! {
                read = self.reader.read_exact(&mut head) => match read {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                },
                () = self.activity.ended() => return Ok(()),
            }
            self.activity.touch();
            match Head::parse(head)? {
                Head::Data { stream, flags, length } => self.data(stream, flags, length).await?,
                Head::Control { kind, flags, length } if length <= MAX_CONTROL => {
                    let mut body = vec![0; length];
                    self.reader.read_exact(&mut body).await?;
                    self.control(kind, flags, &body).await?;
                }
                Head::Control { length, .. } => {
                    return Err(io::Error::other(format!("a control frame of {length} bytes")));
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, flags: u8, length: usize) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(MAX_PIECE));
            self.reader.read_exact(&mut piece).await?;
            left -= piece.len();
            if let Some(to) = self.open.get(&stream).and_then(|open| open.to.as_ref()) {
                // Nobody reads it any more: what is under way is dropped, as a reset would.
                let _ = to.send(piece.freeze()).await;
            }
        }
        if flags & FIN != 0
            && let Some(open) = self.open.get_mut(&stream)
        {
            open.to = None;
        }
        Ok(())
    }

    async fn control(&mut self, kind: Kind, flags: u8, body: &[u8]) -> io::Result<()> {
        match Control::parse(kind, body)? {
            Control::SynStream { stream, block } => self.open(stream, flags, block).await?,
            Control::Headers { block } => {
                // Every block must pass through the one decompressor of the connection.
                self.inflater.block(block)?;
            }
            Control::RstStream { stream } => {
                if let Some(open) = self.open.remove(&stream) {
                    open.reset.cancel();
                }
            }
            Control::Ping { id } => self.send(Piece::Pong(id)).await?,
            // What is open goes on after GOAWAY; the peer knows no windows or settings.
            Control::GoAway | Control::Ignored => {}
        }
        Ok(())
    }

    async fn open(&mut self, stream: u32, flags: u8, block: &[u8]) -> io::Result<()> {
        let headers = headers::pairs(&self.inflater.block(block)?)?;
        self.open.retain(|_, open| open.alive.strong_count() > 0);
        if self.open.len() >= MAX_STREAMS || self.open.contains_key(&stream) {
            return self.send(Piece::Reset(stream)).await;
        }
        let (to, input) = mpsc::channel(QUEUE);
        let (alive, reset) = (Arc::new(()), CancellationToken::new());
        let to = (flags & FIN == 0).then_some(to);
        self.open.insert(stream, Open { to, reset: reset.clone(), alive: Arc::downgrade(&alive) });
        self.send(Piece::Accept(stream)).await?;
        let output = Output::new(stream, self.pieces.clone());
        let stream = Stream { headers, input, output, reset, alive };
        self.opened.send(stream).await.map_err(|_| io::Error::other("nobody takes streams any more"))
    }

    async fn send(&mut self, piece: Piece) -> io::Result<()> {
        self.pieces.send(piece).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

async fn write(
    writer: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
    activity: &Activity,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(MAX_PIECE * 2, writer);
    let mut deflater = Deflater::new();
    while let Some(piece) = next(&mut pieces, activity).await {
        activity.touch();
        match piece {
            Piece::Data(stream, data) => {
                writer.write_all(&frame::data(stream, 0, data.len())).await?;
                writer.write_all(&data).await?;
            }
            Piece::End(stream) => writer.write_all(&frame::data(stream, FIN, 0)).await?,
            Piece::Accept(stream) => {
                let block = deflater.block(&headers::block(&[]))?;
                writer.write_all(&frame::syn_reply(stream, &block)).await?;
            }
            Piece::Reset(stream) => writer.write_all(&frame::rst_stream(stream, frame::REFUSED_STREAM)).await?,
            Piece::Pong(id) => writer.write_all(&frame::ping(id)).await?,
            Piece::Bye => {
                writer.write_all(&frame::go_away()).await?;
                writer.flush().await?;
                return writer.shutdown().await;
            }
        }
        if pieces.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await
}

/// The next piece; `None` when all senders or the connection are gone.
pub(super) async fn next(pieces: &mut mpsc::Receiver<Piece>, activity: &Activity) -> Option<Piece> {
    tokio::select! {
        biased;
        piece = pieces.recv() => piece,
        () = activity.ended() => None,
    }
}

#[cfg(test)]
mod tests;
