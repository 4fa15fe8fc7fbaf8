//! Frames as spdystream sends them: header blocks below come from zlib with the draft's dictionary, in one stream.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::headers::{DICTIONARY, Deflater, Inflater, block, pairs};
use super::*;

/// `streamtype: error`, `port: 80`, `requestid: 0`; and the same for `data`, which refers back to the first.
const FIRST: &str =
    "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc64610024398b209198094adc8c0600000000ffff";
const SECOND: &str = "c2aa15540a2512d209000000ffff";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn syn_stream(stream: u32, flags: u8, block: &str) -> Vec<u8> {
    let block = bytes(block);
    let mut frame = vec![0x80, 3, 0, 1, flags, 0, 0, u8::try_from(block.len() + 10).expect("a short block")];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&block);
    frame
}

#[track_caller]
fn check(head: &str, expected: Option<Head>) {
    let head = bytes(head).try_into().expect("eight bytes");
    assert_eq!(Head::parse(head).ok(), expected);
}

#[test]
fn heads() {
    check("0000000301000010", Some(Head::Data { stream: 3, flags: FIN, length: 16 }));
    check("800300010000000a", Some(Head::Control { kind: Kind::SYN_STREAM, flags: 0, length: 10 }));
    check("8003000600000004", Some(Head::Control { kind: Kind::PING, flags: 0, length: 4 }));
    check("8002000100000004", None);
}

#[test]
fn short_control_frames_are_refused() {
    for kind in [Kind::SYN_STREAM, Kind::RST_STREAM, Kind::PING, Kind::HEADERS] {
        assert!(Control::parse(kind, &[0; 3]).is_err(), "{kind:?}");
    }
    assert_eq!(Control::parse(Kind(4), &[]).ok(), Some(Control::Ignored));
}

#[test]
fn the_dictionary_is_the_drafts() {
    assert_eq!(DICTIONARY.len(), 1423);
    // The zlib header of every SPDY/3 connection names it by its Adler-32.
    assert_eq!(Deflater::new().block(&block(&[])).expect("compresses")[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
}

#[test]
fn blocks_share_a_stream() {
    let mut inflater = Inflater::new();
    let mut read = |hex: &str| pairs(&inflater.block(&bytes(hex)).expect("decompresses")).expect("pairs");
    let of = |kind: &str| {
        [("streamtype", kind), ("port", "80"), ("requestid", "0")].map(|(name, value)| (name.into(), value.into()))
    };
    assert_eq!(read(FIRST), of("error"));
    assert_eq!(read(SECOND), of("data"));
    assert!(Inflater::new().block(&bytes(SECOND)).is_err());
    assert!(pairs(&[0, 0, 0, 1, 0, 0, 0, 9, 1]).is_err());
}

#[test]
fn what_is_compressed_is_read_again() {
    let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
    for _ in 0..3 {
        let sent = block(&[("status", "200"), ("version", "HTTP/1.1")]);
        let passed = inflater.block(&deflater.block(&sent).expect("compresses")).expect("decompresses");
        assert_eq!(passed, sent);
    }
}

#[tokio::test]
async fn streams_open_carry_data_and_end() {
    let (mut peer, io) = tokio::io::duplex(1 << 16);
    let (mut streams, pieces, _writer) = start(io, Activity::default());
    peer.write_all(&syn_stream(1, FIN, FIRST)).await.expect("written");
    peer.write_all(&syn_stream(3, 0, SECOND)).await.expect("written");
    peer.write_all(&frame::data(3, FIN, 2)).await.expect("written");
    peer.write_all(b"hi").await.expect("written");
    let mut error = streams.recv().await.expect("the error stream");
    let mut data = streams.recv().await.expect("the data stream");
    assert_eq!((error.header("streamtype"), data.header("streamtype")), ("error", "data"));
    assert_eq!(error.input.recv().await, None);
    assert_eq!(data.input.recv().await.as_deref(), Some(&b"hi"[..]));
    assert_eq!(data.input.recv().await, None);
    peer.write_all(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]).await.expect("written");
    // Two replies (with the zlib head in the first), the pong, the data with its end, GOAWAY.
    let mut seen = Vec::new();
    while !has(&seen, &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]) {
        assert!(peer.read_buf(&mut seen).await.expect("replies") > 0, "the pong is missing");
    }
    assert_eq!((&seen[..4], &seen[8..12]), (&[0x80, 3, 0, 2][..], &[0, 0, 0, 1][..]));
    data.output.send(Bytes::from_static(b"you")).await.expect("the writer lives");
    data.output.close().await;
    pieces.send(Piece::Bye).await.expect("the writer lives");
    peer.read_to_end(&mut seen).await.expect("the end");
    assert!(has(&seen, b"\0\0\0\x03\0\0\0\x03you\0\0\0\x03\x01\0\0\0"), "the data is missing");
    assert!(seen.ends_with(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]), "GOAWAY is missing");
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
