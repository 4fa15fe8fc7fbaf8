//! SPDY/3.1 frames: eight bytes of head, then a body. Pure.
//!
//! "SPDY Protocol - Draft 3.1", section 2.2: data frames name their stream, control frames a version and a type; the last
//! 24 bits of the head are the body's length.

use std::io;

/// The sender is done with the stream.
pub(super) const FIN: u8 = 1;
/// Status of RST_STREAM.
pub(super) const REFUSED_STREAM: u32 = 3;

const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;

/// The type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u16);

impl Kind {
    pub(super) const SYN_STREAM: Self = Self(1);
    pub(super) const SYN_REPLY: Self = Self(2);
    pub(super) const RST_STREAM: Self = Self(3);
    pub(super) const PING: Self = Self(6);
    pub(super) const GOAWAY: Self = Self(7);
    pub(super) const HEADERS: Self = Self(8);
}

/// The first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// `length` bytes of a stream follow.
    Data { stream: u32, flags: u8, length: usize },
    /// A body of `length` bytes follows.
    Control { kind: Kind, flags: u8, length: usize },
}

impl Head {
    pub(super) const LENGTH: usize = 8;

    /// Fails for another version of SPDY.
    pub(super) fn parse(bytes: [u8; 8]) -> io::Result<Self> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & CONTROL == 0 {
            return Ok(Self::Data { stream: u32::from_be_bytes([a, b, c, d]), flags, length });
        }
        let version = u16::from_be_bytes([a & !CONTROL, b]);
        if version != VERSION {
            return Err(bad(format!("SPDY version {version} instead of {VERSION}")));
        }
        Ok(Self::Control { kind: Kind(u16::from_be_bytes([c, d])), flags, length })
    }
}

/// What a control frame says, as far as we listen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream { stream: u32, block: &'a [u8] },
    Headers { block: &'a [u8] },
    RstStream { stream: u32 },
    Ping { id: u32 },
    GoAway,
    Ignored,
}

impl<'a> Control<'a> {
    pub(super) fn parse(kind: Kind, body: &'a [u8]) -> io::Result<Self> {
        let word = |at: usize| -> io::Result<u32> {
            let bytes = body.get(at..at + 4).ok_or_else(|| bad(format!("a frame of type {} is cut short", kind.0)))?;
            Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let stream = || word(0).map(|id| id & 0x7fff_ffff);
        Ok(match kind {
            // Stream, associated stream, priority and slot, then the block.
            Kind::SYN_STREAM => {
                word(6)?;
                Self::SynStream { stream: stream()?, block: &body[10..] }
            }
            Kind::HEADERS | Kind::SYN_REPLY => {
                word(0)?;
                Self::Headers { block: &body[4..] }
            }
            Kind::RST_STREAM => Self::RstStream { stream: stream()? },
            Kind::PING => Self::Ping { id: word(0)? },
            Kind::GOAWAY => Self::GoAway,
            _ => Self::Ignored,
        })
    }
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The head of a data frame. A piece of data is far below 16 MiB.
pub(super) fn data(stream: u32, flags: u8, length: usize) -> [u8; 8] {
    head(stream.to_be_bytes(), flags, length)
}

fn head(first: [u8; 4], flags: u8, length: usize) -> [u8; 8] {
    let [a, b, c, d] = first;
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, flags, x, y, z]
}

fn control(kind: Kind, body: &[&[u8]]) -> Vec<u8> {
    let [c, d] = kind.0.to_be_bytes();
    let body = body.concat();
    [&head([CONTROL, 3, c, d], 0, body.len())[..], &body].concat()
}

/// Accepts a stream.
pub(super) fn syn_reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(Kind::SYN_REPLY, &[&stream.to_be_bytes(), block])
}

/// Ends a stream both ways.
pub(super) fn rst_stream(stream: u32, status: u32) -> Vec<u8> {
    control(Kind::RST_STREAM, &[&stream.to_be_bytes(), &status.to_be_bytes()])
}

/// Answers a ping by its own number.
pub(super) fn ping(id: u32) -> Vec<u8> {
    control(Kind::PING, &[&id.to_be_bytes()])
}

/// No more streams; all is well.
pub(super) fn go_away() -> Vec<u8> {
    control(Kind::GOAWAY, &[&[0; 8]])
}
