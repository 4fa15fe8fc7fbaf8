//! The node's own devices and routes: `weft_host` ↔ `weft_net`, `weft_vxlan`, and which NIC carries the node's address.
//!
//! The host reaches pods and Services by routes through `weft_host`; at the far end of that pair, `weft_net`, the hook
//! `from_host` takes the packets. The devices that lead to the host's stack have one MAC address, so whatever the datapath
//! hands over is already addressed to it. Everything here is idempotent: a restart changes nothing.
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::FileExt as _,
};

use abi::config::GATEWAY_MAC;
use ipnetwork::IpNetwork;

use crate::{
    mtu::DoesNotFit,
    netlink::{End, Link, Netlink, NetlinkError},
};

/// The host's side of the pair that leads to pods and Services.
pub const HOST: &str = "weft_host";
/// The far side: hook `from_host`.
pub const NET: &str = "weft_net";
/// The overlay.
pub const VXLAN: &str = "weft_vxlan";
/// UDP port of the overlay, as flannel and Cilium use it on Linux.
pub const VXLAN_PORT: u16 = 8472;
/// Sources of flows that come back to where they started. IPv6 has no link-local form of it: such an address needs a device
/// beside it. So it is a local one (RFC 4193) with the same digits.
pub const HAIRPIN: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 42, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x169, 0x254, 0x42, 0, 0, 0, 1))];
/// Gateways of the host's routes: permanent neighbours on `weft_host`, never addresses of anybody.
const NEXT_HOP: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 42, 2)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x42, 2))];

/// What the node's devices are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Devices {
    /// `weft_host`.
    pub host: Link,
    /// `weft_net`.
    pub net: Link,
    /// `weft_vxlan`.
    pub vxlan: Link,
    /// The NIC.
    pub nic: Link,
    /// Why this NIC.
    pub reason: String,
    /// What else could have been the NIC.
    pub others: Vec<Other>,
    /// MTU of pods.
    pub pod_mtu: u32,
}

/// A device that leads out of the node and is not its NIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Other {
    /// The device.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Why it is not the NIC.
    pub reason: String,
}

/// The node's devices cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// No device has the node's address.
    #[error(
        "no network device of this machine has the node's address {0}: check the Node's InternalIP, or pass --device"
    )]
    NoDevice(IpAddr),
    /// There is no device of the name that `--device` gives.
    #[error("there is no network device {0} (given by --device)")]
    UnknownDevice(String),
    /// The kernel says that a device which was just made is not there.
    #[error("the device {0} is gone again")]
    Gone(&'static str),
    /// `--mtu` does not go with the NIC.
    #[error(transparent)]
    Mtu(#[from] DoesNotFit),
    /// A request failed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Makes what is missing; `pod_mtu` says what the NIC leaves for pods.
///
/// # Errors
/// [`DevicesError`].
pub async fn ensure(
    netlink: &Netlink,
    device: &str,
    own: &[IpAddr],
    ranges: &[IpNetwork],
    pod_mtu: impl Fn(&Link) -> Result<u32, DoesNotFit>,
) -> Result<Devices, DevicesError> {
    let (nic, reason) = nic(netlink, device, own).await?;
    let pod_mtu = pod_mtu(&nic)?;
    let host = pair(netlink, pod_mtu).await?;
    let net = found(netlink, NET).await?;
    let vxlan = vxlan(netlink, pod_mtu).await?;
    for link in [&host, &net, &vxlan] {
        quiet(&link.name, link.name == HOST && own.iter().any(IpAddr::is_ipv6));
        if link.mac != GATEWAY_MAC || link.mtu != pod_mtu {
            netlink.set(link, GATEWAY_MAC, pod_mtu).await?;
        }
        netlink.set_up(link).await?;
    }
    for address in own {
        let same = |other: &IpAddr| other.is_ipv4() == address.is_ipv4();
        let (next_hop, hairpin) = (NEXT_HOP.into_iter().find(same), HAIRPIN.into_iter().find(same));
        if let Some(next_hop) = next_hop {
            netlink.set_neighbour(&host, next_hop, GATEWAY_MAC).await?;
        }
        let ranges = ranges.iter().copied().filter(|range| same(&range.ip()));
        for range in ranges.chain(hairpin.map(IpNetwork::from)) {
            netlink.set_route(&host, range, next_hop, Some(*address)).await?;
        }
    }
    let others = others(netlink, &nic, device, own).await?;
    Ok(Devices { host, net, vxlan, nic, reason, others, pod_mtu })
}

/// Removes the devices; the routes go with them.
///
/// # Errors
/// What the kernel said.
pub async fn remove(netlink: &Netlink) -> Result<(), NetlinkError> {
    netlink.remove(HOST).await?;
    netlink.remove(VXLAN).await.map(drop)
}

/// The device that carries the node's address, and why it is that one.
///
/// # Errors
/// [`DevicesError`].
pub async fn nic(netlink: &Netlink, device: &str, own: &[IpAddr]) -> Result<(Link, String), DevicesError> {
    if device != "auto" {
        let link = netlink.link(device).await?.ok_or_else(|| DevicesError::UnknownDevice(device.to_owned()))?;
        return Ok((link, "given by --device".to_owned()));
    }
    let address = own.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let link = netlink.link_of(address).await?.ok_or(DevicesError::NoDevice(address))?;
    Ok((link, format!("has the node's address {address}")))
}

/// Devices with addresses that are up and not the NIC, loopback and our own apart.
///
/// # Errors
/// What the kernel said.
pub async fn others(netlink: &Netlink, nic: &Link, device: &str, own: &[IpAddr]) -> Result<Vec<Other>, NetlinkError> {
    let addresses = netlink.addresses_by_device().await?;
    let links = netlink.links().await?.into_iter().filter(|link| link.up && link.index != nic.index);
    let other = |link: Link| {
        let addresses = addresses.get(&link.index).cloned()?;
        let why = match addresses.iter().find(|address| own.contains(address)) {
            Some(address) if device != "auto" => format!("has the node's address {address}, but --device is {device}"),
            Some(address) => format!("has the node's address {address}, but its first one is on {}", nic.name),
            None => "has no address of the Node's InternalIPs".to_owned(),
        };
        (![HOST, NET, VXLAN].contains(&&*link.name)).then_some(Other { link, addresses, reason: why })
    };
    Ok(links.filter_map(other).collect())
}

async fn pair(netlink: &Netlink, mtu: u32) -> Result<Link, DevicesError> {
    if netlink.link(HOST).await?.is_none() {
        let end = |name| End { name, mac: GATEWAY_MAC };
        netlink.add_pair(&end(HOST), &end(NET), mtu).await?;
    }
    found(netlink, HOST).await
}

async fn vxlan(netlink: &Netlink, mtu: u32) -> Result<Link, DevicesError> {
    if netlink.link(VXLAN).await?.is_none() {
        // The driver drops a frame from its own address as a loop: the datapath sends from `OVERLAY_SOURCE_MAC`.
        netlink.add_vxlan(End { name: VXLAN, mac: GATEWAY_MAC }, VXLAN_PORT, mtu).await?;
    }
    found(netlink, VXLAN).await
}

async fn found(netlink: &Netlink, name: &'static str) -> Result<Link, DevicesError> {
    netlink.link(name).await?.ok_or(DevicesError::Gone(name))
}

/// Our own devices only: answers may come back by another device than the kernel would choose, and IPv6's own chatter
/// (router solicitations, multicast reports) has no place on them; with `v6` the host's stack takes IPv6 there. Best effort:
/// where `/proc/sys` is read-only these are the node's defaults, and `problems` tells when that matters.
pub fn quiet(device: &str, v6: bool) {
    setting(&format!("/proc/sys/net/ipv6/conf/{device}/accept_ra"), "0");
    setting(&format!("/proc/sys/net/ipv6/conf/{device}/accept_dad"), "0");
    setting(&format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), if v6 { "0" } else { "1" });
    setting(&format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), "0");
    setting(&format!("/proc/sys/net/ipv4/conf/{device}/forwarding"), "1");
}

/// Writes a setting that is another: for some the kernel takes the lock of all devices, whatever is written.
pub(crate) fn setting(path: &str, value: &str) {
    if let Err(error) = set(path, value)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(path, %error, "a setting of a device of ours cannot be written");
    }
}

fn set(path: &str, value: &str) -> std::io::Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut old = [0; 16];
    let length = file.read_at(&mut old, 0)?;
    if old[..length].trim_ascii() == value.as_bytes() { Ok(()) } else { file.write_all_at(value.as_bytes(), 0) }
}

/// Settings of the node that stand in the way, each with what to do.
pub fn problems(own: &[IpAddr]) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut problems = Vec::new();
    if read("/proc/sys/net/ipv4/ip_forward") == "0" {
        problems
            .push("net.ipv4.ip_forward is 0: pods reach nothing outside; run `sysctl -w net.ipv4.ip_forward=1`".into());
    }
    if own.iter().any(IpAddr::is_ipv6) && read("/proc/sys/net/ipv6/conf/all/forwarding") == "0" {
        let remedy = "run `sysctl -w net.ipv6.conf.all.forwarding=1`";
        problems.push(format!("net.ipv6.conf.all.forwarding is 0: pods reach nothing outside by IPv6; {remedy}"));
    }
    if read("/proc/sys/net/ipv4/conf/all/rp_filter") == "1" {
        problems.push(
            "net.ipv4.conf.all.rp_filter is 1: answers to the host may be dropped; run `sysctl -w net.ipv4.conf.all.rp_filter=0`"
                .into(),
        );
    }
    problems
}
