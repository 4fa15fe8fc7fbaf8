//! What is asked of the kernel, as data: a message, and what to say if it is refused. Each is idempotent where the kernel lets
//! it be.
//!
//! A [`Netlink`](super::Netlink) sends them within a runtime, a [`Direct`](super::direct::Direct) without one.
use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use ipnetwork::IpNetwork;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressHeaderFlags,
    link::{InfoData, InfoVeth, LinkAttribute, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteMessage, RouteScope},
};
use rtnetlink::{
    AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage},
};

use super::{End, Link, NetlinkError, PROTOCOL};

/// A message, and the words for its refusal.
#[derive(Debug)]
pub struct Request {
    pub(super) message: NetlinkMessage<RouteNetlinkMessage>,
    operation: &'static str,
    object: String,
}

impl Request {
    pub(super) fn new(
        message: RouteNetlinkMessage,
        flags: u16,
        operation: &'static str,
        object: impl Into<String>,
    ) -> Request {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        Request { message, operation, object: object.into() }
    }

    /// What is said if the kernel refuses it.
    pub(super) fn refused(&self, source: io::Error) -> NetlinkError {
        NetlinkError { operation: self.operation, object: self.object.clone(), source }
    }

    /// A veth pair to be, the peer in another network namespace if one is given.
    ///
    /// A queue each way is what a pair has anyway: whoever does not say so gets as many as there are processors, and the
    /// kernel takes all but one away again at once, waiting each time until nobody looks at them.
    pub fn pair(near: &End<'_>, far: &End<'_>, mtu: u32, far_netns: Option<BorrowedFd<'_>>) -> Request {
        let queues = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
        let mut peer: LinkMessage =
            LinkMessageBuilder::<LinkUnspec>::new().name(far.name).address(far.mac.to_vec()).mtu(mtu).build();
        peer.attributes.extend(queues.clone());
        if let Some(netns) = far_netns {
            peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        }
        let mut message = LinkVeth::new(near.name, far.name)
            .address(near.mac.to_vec())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        message.attributes.extend(queues);
        Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, "add the device", near.name)
    }

    /// What there is to know of the device of that name.
    pub fn find(name: &str) -> Request {
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        Request::new(RouteNetlinkMessage::GetLink(message), 0, "read the device", name)
    }

    /// The end of this very device, not of another one of its name.
    pub fn remove(link: &Link) -> Request {
        let message = LinkUnspec::new_with_index(link.index).build();
        Request::new(RouteNetlinkMessage::DelLink(message), 0, "remove the device", &link.name)
    }

    /// A device set up.
    pub fn up(link: &Link) -> Request {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let flags = NLM_F_EXCL | NLM_F_CREATE;
        Request::new(RouteNetlinkMessage::SetLink(message), flags, "set up the device", &link.name)
    }

    /// An address; nobody else can have it, so an IPv6 one is not asked for first.
    pub fn address(link: &Link, address: IpAddr, prefix: u8) -> Request {
        let mut message = match address {
            IpAddr::V4(v4) => AddressMessageBuilder::<std::net::Ipv4Addr>::new().address(v4, prefix).build(),
            IpAddr::V6(v6) => AddressMessageBuilder::<std::net::Ipv6Addr>::new().address(v6, prefix).build(),
        };
        message.header.index = link.index;
        if address.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        let flags = NLM_F_REPLACE | NLM_F_CREATE;
        Request::new(RouteNetlinkMessage::NewAddress(message), flags, "add the address", address.to_string())
    }

    /// A neighbour that is never asked for.
    pub fn neighbour(link: &Link, address: IpAddr, mac: [u8; 6]) -> Request {
        let mut message = NeighbourMessage::default();
        message.header.family = super::family(address);
        message.header.ifindex = link.index;
        message.header.state = NeighbourState::Permanent;
        let to = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes =
            vec![NeighbourAttribute::Destination(to), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let flags = NLM_F_REPLACE | NLM_F_CREATE;
        Request::new(RouteNetlinkMessage::NewNeighbour(message), flags, "set the neighbour", address.to_string())
    }

    /// A route through `gateway`, which need not be on a network of the device. All addresses are of one family.
    ///
    /// # Errors
    /// They are not.
    pub fn route(
        link: &Link,
        to: IpNetwork,
        gateway: Option<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<Request, NetlinkError> {
        const SET: &str = "set the route to";
        let build = || -> Result<RouteMessage, String> {
            let mut route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(to.network(), to.prefix())
                .map_err(|error| error.to_string())?
                .output_interface(link.index)
                .protocol(PROTOCOL);
            route = match gateway {
                Some(gateway) => route.gateway(gateway).map_err(|error| error.to_string())?.onlink(),
                None => route.scope(RouteScope::Link),
            };
            Ok(match source {
                Some(source) => route.pref_source(source).map_err(|error| error.to_string())?.build(),
                None => route.build(),
            })
        };
        let failed = |error| NetlinkError { operation: SET, object: to.to_string(), source: io::Error::other(error) };
        let route = build().map_err(failed)?;
        let flags = NLM_F_REPLACE | NLM_F_CREATE;
        Ok(Request::new(RouteNetlinkMessage::NewRoute(route), flags, SET, to.to_string()))
    }
}
