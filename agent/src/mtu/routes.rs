//! The underlay's MTU towards every other node, as this machine's kernel knows it: the route's, or its device's.
//!
//! What routers on the way have said before (the kernel keeps that for ten minutes) does not count here: [`super::probe`] finds
//! out for itself, and the kernel splits outer packets by it in any case.
use std::net::IpAddr;

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteMetric};
use rtnetlink::RouteMessageBuilder;

use super::{Path, Paths, Setting, alone, of_pods, peers};
use crate::{
    netlink::{Link, Netlink, NetlinkError},
    snapshot::Snapshot,
};

/// Everything that the kernel says of sizes; nothing measured yet. A node that there is no route to counts as one behind
/// the NIC.
///
/// # Errors
/// What the kernel said.
pub async fn read(netlink: &Netlink, nic: &Link, snapshot: &Snapshot, setting: Setting) -> Result<Paths, NetlinkError> {
    let links = netlink.links().await?;
    let mut paths = Paths { setting, device: nic.name.as_str().into(), nic: nic.mtu, ..Paths::default() };
    let facts = &snapshot.node;
    let peers = peers(&facts.own, &facts.name, &snapshot.nodes, facts.routing);
    for peer in &peers {
        let route = towards(netlink, peer.address, &links).await.unwrap_or(nic.mtu);
        paths.to.insert(peer.address, Path { route, measured: None });
    }
    let underlay = |address| paths.to.get(address).map_or(nic.mtu, |path| path.route);
    let ways = peers.iter().map(|peer| (peer.way, underlay(&peer.address)));
    paths.pods = of_pods(setting, nic.mtu, alone(&facts.own, facts.routing), ways);
    Ok(paths)
}

async fn towards(netlink: &Netlink, to: IpAddr, links: &[Link]) -> Option<u32> {
    let builder = RouteMessageBuilder::<IpAddr>::new();
    let mut request = builder.destination_prefix(to, IpNetwork::from(to).prefix()).ok()?.build();
    // The row of the table, without what the kernel has learned since.
    request.header.flags = RouteFlags::from_bits_retain(libc::RTM_F_FIB_MATCH);
    let route = netlink.handle().route().get(request).execute().try_next().await.ok()??;
    mtu_of(&route, links)
}

/// The route's own MTU, else its device's.
fn mtu_of(route: &RouteMessage, links: &[Link]) -> Option<u32> {
    let device = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => links.iter().find(|link| link.index == *index).map(|link| link.mtu),
        _ => None,
    });
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
            _ => None,
        }),
        _ => None,
    });
    match (metric, device) {
        (Some(metric), Some(device)) => Some(metric.min(device)),
        (metric, device) => metric.or(device),
    }
}
