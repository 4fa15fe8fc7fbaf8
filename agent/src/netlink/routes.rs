//! What the kernel's routing tables say: which routes there are, and the next hop to an address by a device.
use std::net::IpAddr;

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteVia},
};
use rtnetlink::RouteMessageBuilder;

use super::{Link, Netlink, NetlinkError, refused};

/// Whom a packet is handed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hop {
    /// The address itself: it is on a segment of the device.
    Segment,
    /// A router.
    Router(IpAddr),
}

/// Of errors that say that there is no way there.
const NO_WAY: [i32; 5] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES, libc::ESRCH];

impl Netlink {
    /// The next hop to an address by this device, rules and all tables considered; none if the kernel has no route there
    /// by it. With `forced` only routes of the device count, however good others are: our own through `weft_host` lead
    /// to every pod.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn hop(&self, link: &Link, to: IpAddr, forced: bool) -> Result<Option<Hop>, NetlinkError> {
        let host = if to.is_ipv4() { 32 } else { 128 };
        let builder = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, host);
        let builder = builder.map_err(|error| refused("ask for the route to", &to.to_string())(invalid(&error)))?;
        let mut asked = if forced { builder.output_interface(link.index) } else { builder }.build();
        // The row of the table, and not what would become of a packet: without a route IPv4 takes the address for a
        // neighbour's.
        asked.header.flags = RouteFlags::from_bits_retain(libc::RTM_F_FIB_MATCH);
        let answer = self.handle.route().get(asked).execute().try_next().await;
        match answer.map_err(refused("ask for the route to", &to.to_string())) {
            Ok(answer) => Ok(answer.and_then(|route| hop_by(&route, link.index))),
            Err(error) if error.source.raw_os_error().is_some_and(|code| NO_WAY.contains(&code)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True if the device has a route there through that gateway.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn has_route(&self, link: &Link, to: IpNetwork, gateway: IpAddr) -> Result<bool, NetlinkError> {
        let mut all = RouteMessageBuilder::<IpAddr>::new().build();
        all.header.address_family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let family = all.header.address_family;
        let routes = self.list("routes", |handle| handle.route().get(all).execute()).await?;
        let is_ip = |address: &RouteAddress, ip: IpAddr| match address {
            RouteAddress::Inet(v4) => IpAddr::V4(*v4) == ip,
            RouteAddress::Inet6(v6) => IpAddr::V6(*v6) == ip,
            _ => false,
        };
        let is = |route: &RouteMessage| {
            let has = |test: &dyn Fn(&RouteAttribute) -> bool| route.attributes.iter().any(test);
            let leads_there = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(ip) if is_ip(ip, to.network()));
            route.header.address_family == family
                && route.header.destination_prefix_length == to.prefix()
                && (to.prefix() == 0 || has(&leads_there))
                && has(&|attribute| matches!(attribute, RouteAttribute::Oif(index) if *index == link.index))
                && has(&|attribute| matches!(attribute, RouteAttribute::Gateway(ip) if is_ip(ip, gateway)))
        };
        Ok(routes.iter().any(is))
    }
}

fn invalid(error: &impl std::fmt::Display) -> rtnetlink::Error {
    rtnetlink::Error::InvalidNla(error.to_string())
}

/// The first of a route's next hops that is by this device.
fn hop_by(route: &RouteMessage, index: u32) -> Option<Hop> {
    for attribute in &route.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            return hops.iter().find(|hop| hop.interface_index == index).map(|hop| gateway(&hop.attributes));
        }
    }
    let by = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(device) if *device == index);
    route.attributes.iter().any(by).then(|| gateway(&route.attributes))
}

fn gateway(attributes: &[RouteAttribute]) -> Hop {
    let router = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
            Some(IpAddr::V4(*v4))
        }
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
            Some(IpAddr::V6(*v6))
        }
        _ => None,
    };
    attributes.iter().find_map(router).map_or(Hop::Segment, Hop::Router)
}
