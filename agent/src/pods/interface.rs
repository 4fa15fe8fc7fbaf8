//! A pod's interface as the pod sees it: what is put on it, and what should be there.
//!
//! Runs inside the pod's network namespace, on the thread that `netns::within` makes.
use std::net::Ipv4Addr;

use abi::config::GATEWAY_MAC;
use ipnetwork::Ipv4Network;

use crate::{
    netlink::{Link, Netlink, NetlinkError},
    netns::NetnsError,
};

/// The pods' gateway: nobody's address, a permanent neighbour on every pod's interface.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Loopback up; address, gateway and routes on the interface.
pub(super) async fn dress(netlink: Netlink, ifname: String, address: Ipv4Addr) -> Result<(), NetnsError> {
    if let Some(lo) = netlink.link("lo").await? {
        netlink.set_up(&lo).await?;
    }
    let gone = || NetlinkError {
        operation: "find the device",
        object: ifname.clone(),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    };
    let link = netlink.link(&ifname).await?.ok_or_else(gone)?;
    silence(&ifname);
    netlink.add_address(&link, address, 32).await?;
    netlink.set_up(&link).await?;
    netlink.set_neighbour(&link, GATEWAY, GATEWAY_MAC).await?;
    netlink.set_route(&link, Ipv4Network::from(GATEWAY), None, None).await?;
    netlink.set_route(&link, everywhere(), Some(GATEWAY), Some(address)).await?;
    Ok(())
}

/// The first thing that is not as [`dress`] left it.
pub(super) async fn missing(
    netlink: Netlink,
    ifname: String,
    address: Ipv4Addr,
    mac: [u8; 6],
) -> Result<Option<&'static str>, NetnsError> {
    let Some(link) = netlink.link(&ifname).await? else { return Ok(Some("the pod's end")) };
    let as_made = |link: &Link| link.up && link.mac == mac;
    if !as_made(&link) {
        return Ok(Some("the pod's end (it is down, or has another MAC address)"));
    }
    if !netlink.has_address(&link, address).await? {
        return Ok(Some("the address"));
    }
    // A route of somebody else's through the same gateway does as well.
    let routed = netlink.has_route(&link, everywhere(), GATEWAY).await?;
    Ok(if routed { None } else { Some("the default route") })
}

fn everywhere() -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 bits")
}

/// IPv6's own chatter (router solicitations, multicast reports) would only be dropped: the pod has no such address.
/// Best effort; `/proc/sys/net` shows the namespace of the thread that looks.
fn silence(ifname: &str) {
    if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6"), "1") {
        tracing::debug!(ifname, %error, "IPv6 cannot be switched off on a pod's interface");
    }
}

/// Locally administered, and the same for the same address.
pub(super) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// The one that was asked for, or that of the address.
pub(super) fn mac_of(entry: &crate::ipam::Entry) -> [u8; 6] {
    entry.wishes.mac.unwrap_or_else(|| mac(entry.address))
}

/// Name of the host's end: `weft` and eight digits of what makes the interface unique.
pub(super) fn device_name(container_id: &str, ifname: &str) -> String {
    format!("weft{:08x}", objects::content::hash(&format!("{container_id} {ifname}"), 0) as u32)
}
