//! The datapath's events → `weft monitor`: read from the ring buffer, named, told to whoever listens.
#![expect(unsafe_code, reason = "tokio wants a promise about the descriptor that it polls")]
use std::{
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use abi::{
    DropReason,
    event::{Event, Hook, KIND_DROP, KIND_KEPT, Kept},
    policy::{EGRESS, INGRESS},
};
use agent_api::v1;
use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::broadcast::{Sender, error::RecvError},
};
use zerocopy::FromBytes;

use crate::{Shared, names::Namer};

/// Events that a slow listener may fall behind by.
pub const BACKLOG: usize = 4_096;

/// `Event.kind` of a packet that was dropped.
pub const DROP: &str = "drop";
/// `Event.kind` of a new flow.
pub const FLOW: &str = "flow";
/// `Event.kind` of a flow that stays half-open.
pub const HALF_OPEN: &str = "half-open";

struct Ring(RingBuf<MapData>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads the ring buffer for ever. Names are only looked up while somebody listens.
pub async fn read(ring: RingBuf<MapData>, shared: Arc<Shared>, listeners: Sender<v1::Event>) {
    // SAFETY: the ring buffer owns its map's descriptor and lives inside the AsyncFd, which unregisters it first.
    let Ok(mut ring) = (unsafe { AsyncFd::register_with_interest(Ring(ring), Interest::READABLE) }) else {
        tracing::error!("the ring buffer of events cannot be polled: weft monitor will show nothing");
        return;
    };
    while let Ok(mut guard) = ring.readable_mut().await {
        let buffer = &mut guard.get_inner_mut().0;
        while let Some(item) = buffer.next() {
            if listeners.receiver_count() == 0 {
                continue;
            }
            if let Ok((event, _)) = Event::read_from_prefix(&item) {
                let _ = listeners.send(shared.tell(&event));
            }
        }
        guard.clear_ready();
    }
}

/// Reads what the programs log for ever.
pub async fn log(logger: EbpfLogger<&'static dyn log::Log>) {
    // SAFETY: the logger owns its map's descriptor and lives inside the AsyncFd, which unregisters it first.
    let Ok(mut logger) = (unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }) else { return };
    while let Ok(mut guard) = logger.readable_mut().await {
        guard.get_inner_mut().flush();
        guard.clear_ready();
    }
}

impl Shared {
    fn tell(&self, event: &Event) -> v1::Event {
        let in_force = self.in_force.borrow().compiled.clone();
        let node = &self.args.node_name;
        let namer = Namer { addresses: self.addresses.of(&self.inbox), names: &in_force.names, node };
        let device = self.device_name(event.ifindex);
        named(event, &namer, device)
    }
}

/// An event in people's words.
pub fn named(event: &Event, namer: &Namer, device: String) -> v1::Event {
    let drop = event.kind == KIND_DROP;
    let reason = if drop { DropReason::from_number(event.reason) } else { None };
    let kept = if event.kind == KIND_KEPT { Kept::from_number(event.reason) } else { None };
    let why = reason.map(|reason| (reason.label(), reason.text()));
    let (label, text) = why.or_else(|| kept.map(|kept| (kept.label(), kept.text()))).unwrap_or_default();
    let hook = Hook::ALL.iter().find(|hook| **hook as u8 == event.hook);
    let translated = (event.backend, event.backend_port) != (event.dst, event.dport);
    // The pod behind a service is the backend, not the address that was asked.
    let (dst_pod, backend_pod) = if translated { (abi::pod::NONE, event.dst_pod) } else { (event.dst_pod, 0) };
    let policies = match reason {
        Some(DropReason::PolicyDeniedIngress) => namer.policies(event.rule, INGRESS),
        Some(DropReason::PolicyDeniedEgress) => namer.policies(event.rule, EGRESS),
        Some(_) => Vec::new(),
        None => namer.allowed_by([event.rule, 0]),
    };
    v1::Event {
        time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64),
        kind: if drop {
            DROP
        } else if kept.is_some() {
            HALF_OPEN
        } else {
            FLOW
        }
        .to_owned(),
        hook: hook.map(|hook| hook.name().to_owned()).unwrap_or_default(),
        reason: label.to_owned(),
        reason_text: text.to_owned(),
        proto: crate::text::proto(event.proto),
        source: Some(namer.endpoint(event.src, event.sport, event.src_pod)),
        destination: Some(namer.endpoint(event.dst, event.dport, dst_pod)),
        backend: translated.then(|| namer.endpoint(event.backend, event.backend_port, backend_pod)),
        policies,
        device,
        bytes: event.len,
        lost: 0,
        node: namer.node.to_owned(),
    }
}

/// The next event for a listener; `None` when there will be none.
pub async fn next(listener: &mut tokio::sync::broadcast::Receiver<v1::Event>) -> Option<v1::Event> {
    let mut lost = 0;
    loop {
        match listener.recv().await {
            Ok(event) => return Some(v1::Event { lost, ..event }),
            Err(RecvError::Lagged(count)) => lost += count,
            Err(RecvError::Closed) => return None,
        }
    }
}

/// True if a listener asked for this event.
pub fn wanted(request: &v1::MonitorRequest, event: &v1::Event) -> bool {
    let ends = [&event.source, &event.destination, &event.backend];
    let of_pod = || ends.into_iter().flatten().any(|end| end.name == request.pod);
    (request.kinds.is_empty() || request.kinds.contains(&event.kind)) && (request.pod.is_empty() || of_pod())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use objects::Key;

    use super::*;
    use crate::compile::Names;

    #[test]
    fn a_refused_packet_names_pods_and_policy() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let mut names = Names::default();
        names.pods.insert(7, Key::new("shop", "backend"));
        let set = policy::Set { ingress: vec![Key::new("shop", "only-frontend")], egress: Vec::new() };
        names.sets.insert(99, set);
        let addresses = Arc::new(BTreeMap::from([(ip("10.244.1.3"), "shop/thief".to_owned())]));
        let namer = Namer { addresses, names: &names, node: "n1" };
        let event = Event {
            kind: KIND_DROP,
            hook: Hook::FromOverlay as u8,
            reason: DropReason::PolicyDeniedIngress as u8,
            proto: 6,
            src: ip("10.244.1.3").into(),
            dst: ip("10.244.0.9").into(),
            dport: 8080_u16.to_be(),
            dst_pod: 7,
            rule: 99,
            backend: ip("10.244.0.9").into(),
            backend_port: 8080_u16.to_be(),
            ..Event::default()
        };
        let told = named(&event, &namer, "weft_vxlan".into());
        assert_eq!(told.policies, ["shop/only-frontend"]);
        assert_eq!(told.source.expect("set").name, "shop/thief");
        let destination = told.destination.expect("set");
        assert_eq!((destination.name.as_str(), destination.port), ("shop/backend", 8080));
        assert_eq!((told.reason.as_str(), told.backend), ("policy_denied_ingress", None));
    }
}
