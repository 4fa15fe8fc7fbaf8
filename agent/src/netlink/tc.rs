//! Queues and filters of devices.
use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd, OwnedFd},
};

use abi::event::Hook;
use futures::{Stream, StreamExt};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage, TcOption},
};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{DefaultNla, NLM_F_CREATE, NetlinkPayload},
};

use super::{Link, Netlink, NetlinkError, refused, request::Request};
use crate::load::attach::PRIORITY;

/// Queues that are none: what a veth has by itself, and the places where filters hang.
const NO_QUEUES: [&str; 3] = ["noqueue", "clsact", "ingress"];

/// Where the clsact qdisc is, and its two places (linux/pkt_sched.h).
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// Attributes of a BPF filter (linux/pkt_cls.h).
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_DIRECT_ACTION: u32 = 1;

/// A filter of a device's clsact qdisc.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// "bpf", "u32", …
    pub kind: String,
    /// Filters are asked from the lowest on.
    pub priority: u16,
    /// On what goes out by the device; else on what comes in.
    pub egress: bool,
}

impl Filter {
    /// True for one of our hooks: nobody else has its priority by accident.
    pub fn is_ours(&self) -> bool {
        self.priority == PRIORITY && self.kind == "bpf"
    }
}

impl Netlink {
    /// The filters on a device's clsact qdisc, both ways.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn filters(&self, link: &Link) -> Result<Vec<Filter>, NetlinkError> {
        let index = link.index.cast_signed();
        let mut all = Vec::new();
        for egress in [false, true] {
            let ask = move |handle: Handle| {
                let request = handle.traffic_filter(index).get();
                if egress { request.egress() } else { request.ingress() }.execute()
            };
            let filters = self.list(&format!("the filters of {}", link.name), ask).await?;
            // A chain of a priority is told too, with no handle: it is no filter.
            let filters = filters.iter().filter(|filter| u32::from(filter.header.handle) != 0);
            all.extend(filters.map(|filter| Filter { kind: kind(filter), priority: priority(filter), egress }));
        }
        Ok(all)
    }

    /// What delays or drops behind devices, by their index: roots that are a queue.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn queues(&self) -> Result<BTreeMap<u32, String>, NetlinkError> {
        let queues = self.list("queues", |handle| handle.qdisc().get().execute()).await?;
        let roots = queues.iter().filter(|queue| queue.header.parent == TcHandle::ROOT);
        let named = roots.map(|queue| (queue.header.index.cast_unsigned(), kind(queue)));
        Ok(named.filter(|(_, kind)| !NO_QUEUES.contains(&kind.as_str())).collect())
    }

    /// Removes a device's clsact qdisc; no error if there is none.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn remove_clsact(&self, link: &Link) -> Result<(), NetlinkError> {
        let mut request = self.handle.qdisc().del(link.index.cast_signed());
        let header = &mut request.message_mut().header;
        (header.parent, header.handle) = (TcHandle::from(CLSACT), TcHandle::from(0xffff_0000));
        match request.execute().await.map_err(refused("remove the clsact qdisc of", &link.name)) {
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
            other => other,
        }
    }
}

/// Our hooks for a device that is new: a clsact qdisc and filters by it, those that are there replaced.
pub fn hooks(link: &Link, hooks: &[(Hook, OwnedFd)]) -> Vec<Request> {
    const ATTACH: &str = "attach programs to";
    let mut clsact = TcMessage::with_index(link.index.cast_signed());
    (clsact.header.parent, clsact.header.handle) = (TcHandle::from(CLSACT), TcHandle::from(0xffff_0000));
    clsact.attributes.push(TcAttribute::Kind("clsact".into()));
    let filters = hooks.iter().map(|(hook, program)| {
        RouteNetlinkMessage::NewTrafficFilter(filter(link, *hook == Hook::ToPod, hook.name(), program))
    });
    let messages = [RouteNetlinkMessage::NewQueueDiscipline(clsact)].into_iter().chain(filters);
    messages.map(|message| Request::new(message, NLM_F_CREATE, ATTACH, &link.name)).collect()
}

/// Indices of devices whose queues or filters change otherwise than by our own ADDs.
///
/// # Errors
/// No socket.
pub fn changes() -> Result<impl Stream<Item = u32> + Unpin, NetlinkError> {
    let failed = |source| NetlinkError { operation: "listen to", object: "rtnetlink".into(), source };
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Tc]).map_err(failed)?;
    tokio::spawn(connection);
    let matters = |message: &TcMessage, new: bool| {
        let kind = kind(message);
        !(new && (NO_QUEUES.contains(&kind.as_str()) || (kind == "bpf" && priority(message) == PRIORITY)))
    };
    Ok(Box::pin(messages.filter_map(move |(message, _)| {
        let changed = match message.payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewQueueDiscipline(message) | RouteNetlinkMessage::NewTrafficFilter(message),
            ) => Some((message, true)),
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::DelQueueDiscipline(message) | RouteNetlinkMessage::DelTrafficFilter(message),
            ) => Some((message, false)),
            _ => None,
        };
        let changed = changed.filter(|(message, new)| matters(message, *new));
        std::future::ready(changed.map(|(message, _)| message.header.index.cast_unsigned()))
    })))
}

/// A filter that decides by itself (direct action), for every protocol.
fn filter(link: &Link, egress: bool, name: &str, program: &OwnedFd) -> TcMessage {
    let every_protocol = u32::from(0x0003_u16.to_be());
    let mut message = TcMessage::with_index(link.index.cast_signed());
    message.header.parent = TcHandle::from(if egress { CLSACT_EGRESS } else { CLSACT_INGRESS });
    message.header.handle = TcHandle::from(1);
    message.header.info = u32::from(PRIORITY) << 16 | every_protocol;
    let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
    let options = vec![
        option(BPF_FD, program.as_raw_fd().to_ne_bytes().to_vec()),
        option(BPF_NAME, [name.as_bytes(), &[0]].concat()),
        option(BPF_FLAGS, BPF_DIRECT_ACTION.to_ne_bytes().to_vec()),
    ];
    message.attributes = vec![TcAttribute::Kind("bpf".into()), TcAttribute::Options(options)];
    message
}

fn kind(message: &TcMessage) -> String {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    });
    kind.unwrap_or_default()
}

/// The upper half of what the kernel calls info; the lower one is a protocol.
fn priority(filter: &TcMessage) -> u16 {
    (filter.header.info >> 16) as u16
}
