//! SPDY/3 header blocks: pairs of strings with 32-bit lengths, in one zlib stream for each direction of a connection.
//!
//! "SPDY Protocol - Draft 3", section 2.6.10: both zlib streams start with a dictionary that the draft prints. It is the
//! usual names, each behind its length, and then text without lengths; so it is made here and not copied as bytes.

use std::io;
use std::sync::LazyLock;

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateError, InflateFlush};

/// A decompressed block is never longer.
const MAX_BLOCK: usize = 64 << 10;
const WINDOW_BITS: u8 = 15;

const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges \
    age allow authorization cache-control connection content-base content-encoding content-language content-length \
    content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status";
const MORE_WORDS: &str = "version HTTP/1.1 url public set-cookie keep-alive origin";
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
    Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
    chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,\
    publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

pub(super) static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = WORDS.split(' ').chain(["200 OK"]).chain(MORE_WORDS.split(' '));
    let mut bytes = Vec::with_capacity(1423);
    for word in words {
        string(&mut bytes, word);
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
});

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Pairs as the bytes of a block, not yet compressed.
pub(super) fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for (name, value) in pairs {
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// The pairs of a decompressed block.
pub(super) fn pairs(mut bytes: &[u8]) -> io::Result<Vec<(String, String)>> {
    let count = word(&mut bytes)?;
    (0..count).map(|_| Ok((text(&mut bytes)?.to_ascii_lowercase(), text(&mut bytes)?))).collect()
}

fn bad(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn word(bytes: &mut &[u8]) -> io::Result<usize> {
    let (first, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| bad("a header block is cut short"))?;
    *bytes = rest;
    Ok(u32::from_be_bytes(*first) as usize)
}

fn text(bytes: &mut &[u8]) -> io::Result<String> {
    let length = word(bytes)?;
    let (first, rest) = bytes.split_at_checked(length).ok_or_else(|| bad("a header block is cut short"))?;
    *bytes = rest;
    Ok(String::from_utf8_lossy(first).into_owned())
}

/// One direction's decompressor.
pub(super) struct Inflater(Inflate);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Inflate::new(true, WINDOW_BITS))
    }

    /// The next block of the stream, decompressed.
    pub(super) fn block(&mut self, mut input: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![0; MAX_BLOCK];
        let mut length = 0;
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress(input, &mut out[length..], InflateFlush::SyncFlush);
            let taken = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            length += usize::try_from(self.0.total_out() - written).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            match result {
                Err(InflateError::NeedDict { .. }) => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| bad("a header block needs another dictionary"))?;
                }
                Err(_) => return Err(bad("a header block does not decompress")),
                Ok(_) if length == out.len() => return Err(bad("a header block is too long")),
                Ok(_) if input.is_empty() || taken == 0 => break,
                Ok(_) => {}
            }
        }
        out.truncate(length);
        Ok(out)
    }
}

/// One direction's compressor.
pub(super) struct Deflater(Deflate);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut deflate = Deflate::new(6, true, WINDOW_BITS);
        deflate.set_dictionary(&DICTIONARY).expect("a fresh zlib stream takes a dictionary");
        Self(deflate)
    }

    /// The next block of the stream, compressed and flushed.
    pub(super) fn block(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![0; bytes.len() + 256];
        let before = self.0.total_out();
        self.0
            .compress(bytes, &mut out, DeflateFlush::SyncFlush)
            .map_err(|_| bad("a header block does not compress"))?;
        out.truncate(usize::try_from(self.0.total_out() - before).unwrap_or(usize::MAX));
        Ok(out)
    }
}
