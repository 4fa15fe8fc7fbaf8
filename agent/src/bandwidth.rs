//! What a pod receives, limited: a token bucket filter (TBF) on the host's end of its interface.
//!
//! The queue delays instead of dropping; the datapath sends through it when the pod's row says `QUEUED`. What a pod sends is
//! limited in the datapath (`datapath::limit`).
use futures::StreamExt;
use rtnetlink::{
    Handle,
    packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage, TcOption},
    },
};

use crate::{
    cni::wishes::Rate,
    netlink::{Link, NetlinkError},
};

/// Attributes of TBF (linux/pkt_sched.h).
const PARAMETERS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel reckons by itself and wants no table.
const ETHERNET: u8 = 1;
/// What waits at most: this long.
const LATENCY_PARTS: u64 = 20;

/// Limits what goes out by a device.
///
/// # Errors
/// What the kernel said.
pub async fn limit(mut handle: Handle, link: &Link, rate: Rate) -> Result<(), NetlinkError> {
    let failed = |source| NetlinkError { operation: "limit the device", object: link.name.clone(), source };
    let mut message = TcMessage::with_index(link.index.cast_signed());
    message.header.parent = TcHandle::ROOT;
    message.header.handle = TcHandle { major: 1, minor: 0 };
    let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let options = vec![
        option(PARAMETERS, parameters(rate)),
        option(RATE64, rate.bytes.to_ne_bytes().to_vec()),
        option(BURST, small(rate.burst).to_ne_bytes().to_vec()),
    ];
    message.attributes = vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(options)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = handle.request(request).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(failed(error.to_io()));
        }
    }
    Ok(())
}

/// `struct tc_tbf_qopt`: two `tc_ratespec` of 12 bytes (the rate, no peak), limit, buffer, mtu.
fn parameters(rate: Rate) -> Vec<u8> {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes();
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(small(rate.bytes));
    bytes.extend([0; 12]);
    bytes.extend(small(rate.burst + rate.bytes / LATENCY_PARTS));
    bytes.extend([0; 8]);
    bytes
}
