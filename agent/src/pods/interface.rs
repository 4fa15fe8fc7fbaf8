//! A pod's interface as the pod sees it: what is put on it, and what should be there.
//!
//! Asked of the pod's network namespace, by connections that `build` and `netns::connect` make.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use abi::config::GATEWAY_MAC;
use ipnetwork::IpNetwork;

use crate::netlink::{Link, Netlink, NetlinkError, request::Request};

/// Index of loopback in every namespace.
const LOOPBACK: u32 = 1;

/// The pods' gateway for a family: nobody's address, a permanent neighbour on every pod's interface.
pub fn gateway(v4: bool) -> IpAddr {
    if v4 { IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)) } else { IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)) }
}

/// Loopback up; addresses, gateways and routes on the interface, in the order in which they are asked for.
pub(super) fn dress(link: &Link, addresses: &[IpAddr]) -> Result<Vec<Request>, NetlinkError> {
    let lo = Link { name: "lo".to_owned(), index: LOOPBACK, ..Link::default() };
    let mut requests = vec![Request::up(&lo)];
    let address = |address: &IpAddr| Request::address(link, *address, IpNetwork::from(*address).prefix());
    requests.extend(addresses.iter().map(address));
    requests.push(Request::up(link));
    for address in addresses {
        let gateway = gateway(address.is_ipv4());
        requests.push(Request::neighbour(link, gateway, GATEWAY_MAC));
        if gateway.is_ipv4() {
            requests.push(Request::route(link, gateway.into(), None, None)?);
        }
        requests.push(Request::route(link, everywhere(gateway), Some(gateway), Some(*address))?);
    }
    Ok(requests)
}

/// The first thing that is not as [`dress`] left it.
pub(super) async fn missing(
    netlink: &Netlink,
    ifname: &str,
    addresses: &[IpAddr],
    mac: [u8; 6],
) -> Result<Option<&'static str>, NetlinkError> {
    let Some(link) = netlink.link(ifname).await? else { return Ok(Some("the pod's end")) };
    let as_made = |link: &Link| link.up && link.mac == mac;
    if !as_made(&link) {
        return Ok(Some("the pod's end (it is down, or has another MAC address)"));
    }
    for address in addresses {
        if !netlink.has_address(&link, *address).await? {
            return Ok(Some("the address"));
        }
        // A route of somebody else's through the same gateway does as well.
        let gateway = gateway(address.is_ipv4());
        if !netlink.has_route(&link, everywhere(gateway), gateway).await? {
            return Ok(Some("the default route"));
        }
    }
    Ok(None)
}

/// All addresses of the family.
fn everywhere(of: IpAddr) -> IpNetwork {
    let any = if of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    IpNetwork::new(any, 0).expect("0 bits")
}

/// Nobody answers a pod's router solicitation, and nobody else has its address; without an IPv6 address there is nothing to
/// say at all. Best effort; `/proc/sys/net` shows the namespace of the thread that looks.
pub(super) fn silence(ifname: &str, wholly: bool) {
    for (setting, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", if wholly { "1" } else { "0" })]
    {
        crate::devices::setting(&format!("/proc/sys/net/ipv6/conf/{ifname}/{setting}"), value);
    }
}

/// Locally administered, and the same for the same first address.
pub(super) fn mac(addresses: &[IpAddr]) -> [u8; 6] {
    let [a, b, c, d] = match addresses.first() {
        Some(IpAddr::V4(v4)) => v4.octets(),
        Some(IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            [a, b, c, d]
        }
        None => [0; 4],
    };
    [0x0a, 0x58, a, b, c, d]
}

/// The one that was asked for, or that of the address.
pub(super) fn mac_of(entry: &crate::ipam::Entry) -> [u8; 6] {
    entry.wishes.mac.unwrap_or_else(|| mac(&entry.addresses))
}

/// Whether a device has the name of a pod's host end, as `weft0a1b2c3d`.
pub fn is_device(name: &str) -> bool {
    let digits = name.strip_prefix("weft");
    digits.is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Name of the host's end: `weft` and eight digits of what makes the interface unique.
pub(super) fn device_name(container_id: &str, ifname: &str) -> String {
    format!("weft{:08x}", objects::content::hash(&format!("{container_id} {ifname}"), 0) as u32)
}
