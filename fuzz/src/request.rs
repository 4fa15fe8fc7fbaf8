//! Calls on the agent's socket, as whoever can open it may send them: any message, any value in any field.
//!
//! Promises: what decides about a request does not panic, a refusal has one of CNI's codes and words, and what is granted
//! makes sense: no port 0, no group's MAC address, one address per family, rates within bounds.
//!
//! An input: a byte that names the message, then its protobuf encoding.
use agent::{
    cni::{self, wishes::Wishes},
    events, ipam,
};
use agent_api::v1::{CniError, CniGcRequest, CniReply, CniRequest, Event, MonitorRequest};
use objects::Pod;
use prost::Message;

/// Bits per second, as bytes, beyond which no rate is granted.
const FASTEST: u64 = 1_000_000_000_000_000 / 8;

/// One input.
pub fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 4 {
        0 => decoded::<CniRequest>(bytes, |request| attach(&request)),
        1 => decoded::<CniGcRequest>(bytes, |request| collect(&request)),
        2 => decoded::<MonitorRequest>(bytes, |request| {
            let event = Event { kind: "drop".into(), ..Event::default() };
            let all = request.kinds.is_empty() && request.pod.is_empty();
            assert!(!all || events::wanted(&request, &event), "nothing asked for is everything");
        }),
        _ => decoded::<CniRequest>(bytes, |request| annotated(&request)),
    }
}

/// What does not decode is answered by the transport.
fn decoded<M: Message + Default>(bytes: &[u8], then: impl FnOnce(M)) {
    if let Ok(message) = M::decode(bytes) {
        then(message);
    }
}

/// ADD, and CHECK against what came before.
fn attach(request: &CniRequest) {
    match cni::entry(request) {
        Ok(entry) => {
            assert!(!entry.namespace.is_empty() && !entry.name.is_empty() && !entry.netns.is_empty());
            assert!(entry.is(&request.container_id, &request.ifname));
            sensible(&entry.wishes);
            // As the ledger keeps it over a restart.
            let kept = serde_json::to_vec(&entry).expect("an entry is JSON");
            let read: ipam::Entry = serde_json::from_slice(&kept).expect("what was written can be read");
            assert_eq!(read.wishes, entry.wishes);
        }
        Err(error) => refused(&error),
    }
    let previous = serde_json::from_str(&request.prev_result_json).unwrap_or_default();
    let now = CniReply::decode(request.config_json.as_bytes()).unwrap_or_default().result.unwrap_or_default();
    let nothing = now.interfaces.is_empty() && now.ips.is_empty();
    assert!(!nothing || cni::differs(&previous, &now).is_none(), "nothing differs from nothing");
}

fn refused(error: &CniError) {
    assert!(error.code > 0 && !error.msg.is_empty(), "{error:?}");
}

fn sensible(wishes: &Wishes) {
    assert!(wishes.host_ports.iter().all(|port| port.port > 0 && port.container_port > 0), "{wishes:?}");
    assert!(wishes.host_ports.iter().all(|port| matches!(port.proto, 6 | 17)), "{wishes:?}");
    assert!(wishes.mac.is_none_or(|mac| mac[0] & 1 == 0 && mac != [0; 6]), "{wishes:?}");
    for v4 in [true, false] {
        assert!(wishes.ips.iter().filter(|ip| ip.is_ipv4() == v4).count() <= 1, "{wishes:?}");
    }
    assert!(wishes.rates.iter().flatten().all(|rate| (1..=FASTEST).contains(&rate.bytes)), "{wishes:?}");
}

/// GC: the network, and what is kept.
fn collect(request: &CniGcRequest) {
    // Which network's entries are kept: any name will do, and none.
    let _ = cni::network(&request.config_json);
    let listed = request.valid.iter().all(|one| {
        let entry = CniRequest { container_id: one.container_id.clone(), ifname: one.ifname.clone(), ..complete() };
        cni::entry(&entry).is_ok_and(|entry| entry.is(&one.container_id, &one.ifname))
    });
    assert!(listed, "what the runtime lists is found");
}

/// A request that lacks nothing.
fn complete() -> CniRequest {
    let args = [("K8S_POD_NAMESPACE", "n"), ("K8S_POD_NAME", "p")];
    let args = args.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    CniRequest { args, netns: "/run/netns/x".into(), ..CniRequest::default() }
}

/// The Pod's own wishes: `config_json` stands for the Pod as the API server has it.
fn annotated(request: &CniRequest) {
    let Ok(pod) = serde_json::from_str::<Pod>(&request.config_json) else { return };
    let Ok(wishes) = Wishes::read(&request.prev_result_json) else { return };
    match (wishes.rates(Some(&pod)), wishes.addresses(Some(&pod))) {
        (Ok(rates), Ok(ips)) => sensible(&Wishes { ips, rates, ..wishes }),
        (rates, ips) => {
            let error = rates.err().or(ips.err()).expect("one of them failed");
            assert!(error.code() > 0 && !error.to_string().is_empty());
        }
    }
}
