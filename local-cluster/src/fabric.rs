//! The wire between the nodes: a bridge in a namespace of its own, and a veth pair from it to each node.
//!
//! Pairs are made inside the fabric's namespace with their far end already in the node's, so no device ever appears on
//! the host. The fabric has no way out.

use std::{io, net::Ipv4Addr, os::fd::AsFd as _, os::fd::AsRawFd as _};

use futures::TryStreamExt as _;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection};

use crate::{netns, netns::Netns, spec::FABRIC_PREFIX};

const BRIDGE: &str = "fabric";
/// The node's device on the fabric.
pub const DEVICE: &str = "eth0";

/// What failed on the fabric.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// The runtime or the socket that netlink needs.
    #[error("opening a netlink socket")]
    Socket(#[source] io::Error),
    /// A refused request.
    #[error("netlink: {what} {name}")]
    Netlink {
        /// What was asked.
        what: &'static str,
        /// Of which device.
        name: String,
        /// The kernel's answer.
        #[source]
        source: Box<rtnetlink::Error>,
    },
    /// A device that was made just now is not there.
    #[error("device {0} is gone")]
    Gone(String),
}

/// Makes the bridge in `fabric`.
pub fn make(fabric: &Netns) -> Result<(), Error> {
    // Nothing on the bridge speaks: no link-local address, no neighbour discovery of its own.
    fabric.run(|| _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))?;
    with_netlink(fabric, async |handle| {
        let bridge = LinkBridge::new(BRIDGE).build();
        handle.link().add(bridge).execute().await.map_err(refused("add bridge", BRIDGE))?;
        up(handle, "lo").await
    })
}

/// Joins `far` to the fabric: `eth0` there with `address`, the other end is the bridge's port `port`.
///
/// An old port of that name (of a node that was cut off) is replaced.
pub fn plug(fabric: &Netns, port: &str, far: &Netns, address: Ipv4Addr) -> Result<(), Error> {
    let far_fd = far.as_fd().as_raw_fd();
    with_netlink(fabric, async |handle| {
        if let Some(old) = index(handle, port).await {
            // It may go by itself meanwhile: its far namespace is being torn down.
            _ = handle.link().del(old).execute().await;
        }
        let bridge = index(handle, BRIDGE).await.ok_or_else(|| Error::Gone(BRIDGE.to_owned()))?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(DEVICE)
            .append_extra_attribute(LinkAttribute::NetNsFd(far_fd))
            .address(mac(address).to_vec())
            .build();
        let pair = LinkVeth::new(port, DEVICE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(bridge)
            .up()
            .build();
        handle.link().add(pair).execute().await.map_err(refused("add veth pair", port))
    })?;
    with_netlink(far, async |handle| {
        up(handle, "lo").await?;
        up(handle, DEVICE).await?;
        let device = index(handle, DEVICE).await.ok_or_else(|| Error::Gone(DEVICE.to_owned()))?;
        let request = handle.address().add(device, address.into(), FABRIC_PREFIX);
        request.execute().await.map_err(refused("add address to", DEVICE))
    })
}

/// A node's MAC address follows from its address, so that neighbours outlive a power cut.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x57, a, b, c, d]
}

async fn up(handle: &Handle, name: &str) -> Result<(), Error> {
    let message = LinkUnspec::new_with_name(name).up().build();
    handle.link().change(message).execute().await.map_err(refused("set up", name))
}

async fn index(handle: &Handle, name: &str) -> Option<u32> {
    let mut links = handle.link().get().match_name(name).execute();
    links.try_next().await.ok().flatten().map(|link| link.header.index)
}

fn refused(what: &'static str, name: &str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { what, name: name.to_owned(), source: Box::new(source) }
}

/// Runs `work` with a netlink socket of the namespace, on a thread and a runtime that end with it.
fn with_netlink<T: Send>(
    netns: &Netns,
    work: impl AsyncFnOnce(&Handle) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Socket)?;
        runtime.block_on(async {
            let (connection, handle, _) = new_connection().map_err(Error::Socket)?;
            tokio::spawn(connection);
            work(&handle).await
        })
    })?
}
