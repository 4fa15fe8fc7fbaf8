//! Which protocol a streaming request asks for, and the answer that switches to it.
//!
//! Three ways: channels in a WebSocket, SPDY in a WebSocket (port-forward of kubectl 1.31 and later), and bare SPDY/3.1.

use hyper::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use hyper::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::channels::Form;
use super::{Body, text};

/// What will be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Channels in WebSocket messages.
    Channels { form: Form, protocol: &'static str },
    /// A SPDY connection in a WebSocket.
    Tunnel { protocol: &'static str },
    /// A SPDY connection.
    Spdy { protocol: &'static str },
}

/// What a resource speaks, the best first.
pub(super) struct Offer {
    /// WebSocket subprotocols with channels.
    pub(super) channels: &'static [(&'static str, Form)],
    /// The WebSocket subprotocol with SPDY inside.
    pub(super) tunnel: Option<&'static str>,
    /// `X-Stream-Protocol-Version` of SPDY.
    pub(super) spdy: &'static [&'static str],
}

/// exec and attach.
pub(super) const COMMAND: Offer = Offer {
    channels: &[
        ("v5.channel.k8s.io", Form::Binary),
        ("v4.channel.k8s.io", Form::Binary),
        ("v4.base64.channel.k8s.io", Form::Base64),
    ],
    tunnel: None,
    spdy: &["v4.channel.k8s.io"],
};

/// portForward.
pub(super) const FORWARD: Offer = Offer {
    channels: &[("v4.channel.k8s.io", Form::Binary), ("v4.base64.channel.k8s.io", Form::Base64)],
    tunnel: Some("SPDY/3.1+portforward.k8s.io"),
    spdy: &["portforward.k8s.io"],
};

/// The protocol, or the status and words of the refusal.
pub(super) fn choose(headers: &HeaderMap, offer: &Offer) -> Result<Transport, (StatusCode, String)> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
    };
    let has = |name: &str, wanted: &str| all(name).iter().any(|value| value.eq_ignore_ascii_case(wanted));
    let upgrades = has("connection", "upgrade");
    if upgrades && has("upgrade", "websocket") {
        let asked = all("sec-websocket-protocol");
        if let Some(protocol) = offer.tunnel.filter(|tunnel| asked.iter().any(|one| one == tunnel)) {
            return Ok(Transport::Tunnel { protocol });
        }
        let found = offer.channels.iter().find(|(name, _)| asked.iter().any(|one| one == name));
        return found.map(|&(protocol, form)| Transport::Channels { form, protocol }).ok_or_else(|| {
            let known: Vec<&str> =
                offer.tunnel.into_iter().chain(offer.channels.iter().map(|(name, _)| *name)).collect();
            let message =
                format!("unable to upgrade: subprotocols {asked:?} are not supported, use one of {known:?}\n");
            (StatusCode::BAD_REQUEST, message)
        });
    }
    if upgrades && has("upgrade", "SPDY/3.1") {
        let asked = all("x-stream-protocol-version");
        let found = offer.spdy.iter().find(|known| asked.iter().any(|one| one == *known));
        return found.map(|&protocol| Transport::Spdy { protocol }).ok_or_else(|| {
            let known = offer.spdy;
            let message = format!("unable to upgrade: unable to negotiate protocol: client supports {asked:?}, server supports {known:?}\n");
            (StatusCode::FORBIDDEN, message)
        });
    }
    Err((
        StatusCode::BAD_REQUEST,
        "unable to upgrade: missing upgrade headers in request: websocket or SPDY/3.1\n".to_owned(),
    ))
}

/// 101.
pub(super) fn switch(headers: &HeaderMap, transport: Transport) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let answer = response.headers_mut();
    answer.clear();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    match transport {
        Transport::Channels { protocol, .. } | Transport::Tunnel { protocol } => {
            answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            let key = headers.get("sec-websocket-key").map(HeaderValue::as_bytes).unwrap_or_default();
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
                answer.insert("sec-websocket-accept", accept);
            }
        }
        Transport::Spdy { protocol } => {
            answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
            answer.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offer: &Offer, headers: &[(&'static str, &'static str)], expected: Result<Transport, u16>) {
        let pairs = headers
            .iter()
            .map(|(name, value)| (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let found = choose(&pairs.collect(), offer).map_err(|(status, _)| status.as_u16());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_kubectl_asks_for() {
        const CONNECTION: (&str, &str) = ("connection", "Upgrade");
        let websocket = |protocols| [CONNECTION, ("upgrade", "websocket"), ("sec-websocket-protocol", protocols)];
        let v5 = Transport::Channels { form: Form::Binary, protocol: "v5.channel.k8s.io" };
        let base64 = Transport::Channels { form: Form::Base64, protocol: "v4.base64.channel.k8s.io" };
        check(&COMMAND, &websocket("v5.channel.k8s.io"), Ok(v5));
        check(&COMMAND, &websocket("v4.base64.channel.k8s.io, v5.channel.k8s.io"), Ok(v5));
        check(&COMMAND, &websocket("v4.base64.channel.k8s.io"), Ok(base64));
        check(&COMMAND, &websocket("v9"), Err(400));
        let tunnel = Transport::Tunnel { protocol: "SPDY/3.1+portforward.k8s.io" };
        check(&FORWARD, &websocket("SPDY/3.1+portforward.k8s.io"), Ok(tunnel));
        check(&COMMAND, &websocket("SPDY/3.1+portforward.k8s.io"), Err(400));
        let spdy = |version| [CONNECTION, ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", version)];
        check(&COMMAND, &spdy("v4.channel.k8s.io"), Ok(Transport::Spdy { protocol: "v4.channel.k8s.io" }));
        check(&COMMAND, &spdy("channel.k8s.io"), Err(403));
        check(&FORWARD, &spdy("portforward.k8s.io"), Ok(Transport::Spdy { protocol: "portforward.k8s.io" }));
        check(&FORWARD, &[], Err(400));
    }
}
