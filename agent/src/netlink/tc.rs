//! Queues and filters of devices.
use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload};

use super::{Link, Netlink, NetlinkError, refused};
use crate::load::attach::PRIORITY;

/// Queues that are none: what a veth has by itself, and the places where filters hang.
const NO_QUEUES: [&str; 3] = ["noqueue", "clsact", "ingress"];

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
            let request = self.handle.traffic_filter(index).get();
            let request = if egress { request.egress() } else { request.ingress() };
            let filters = request.execute().try_collect::<Vec<_>>().await;
            let filters = filters.map_err(refused("list the filters of", &link.name))?;
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
        let queues = self.handle.qdisc().get().execute().try_collect::<Vec<_>>().await;
        let queues = queues.map_err(refused("list", "queues"))?;
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
        (header.parent, header.handle) = (TcHandle::from(0xffff_fff1), TcHandle::from(0xffff_0000));
        match request.execute().await.map_err(refused("remove the clsact qdisc of", &link.name)) {
            Err(error) if matches!(error.source.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
            other => other,
        }
    }
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
