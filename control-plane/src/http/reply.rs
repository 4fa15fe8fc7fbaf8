//! Replies: JSON bodies, refusals as metav1.Status, streams, compression.
use std::convert::Infallible;
use std::io::Write;

use api::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

/// The body of every reply.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// Every reply.
pub(super) type Reply = Response<Body>;

/// Replies shorter than this are not compressed, as upstream.
const COMPRESS_FROM: usize = 128 << 10;
pub(super) const JSON: &str = "application/json";

/// A body that is there.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub(super) fn stream(pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Bytes of some type.
pub(super) fn bytes(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(body));
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache, private"));
    reply
}

/// JSON.
pub(super) fn json(code: u16, body: impl Into<Bytes>) -> Reply {
    bytes(code, JSON, body)
}

/// A value as JSON.
pub(super) fn value(code: u16, value: &Value) -> Reply {
    json(code, value.to_string())
}

/// A refusal.
pub(super) fn refusal(status: &Status) -> Reply {
    let mut reply = value(status.code, &status.to_value());
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.code == 401 {
        reply.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer realm=\"kubernetes\""));
    }
    reply
}

/// Adds warnings that kubectl prints.
pub(super) fn warn(reply: &mut Reply, warnings: &[String]) {
    for warning in warnings {
        let text = format!("299 - {}", api::status::quote(warning));
        if let Ok(text) = HeaderValue::from_str(&text) {
            reply.headers_mut().append("warning", text);
        }
    }
}

/// JSON, compressed if it is long and the client can read that.
pub(super) fn long_json(body: Vec<u8>, gzip: bool) -> Reply {
    if !gzip || body.len() < COMPRESS_FROM {
        return json(200, body);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    let compressed = encoder.write_all(&body).and_then(|()| encoder.finish());
    let Ok(compressed) = compressed else { return json(200, body) };
    let mut reply = json(200, compressed);
    reply.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    reply.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    reply
}
