//! The wire between the nodes: a bridge in a namespace of its own, and a veth pair from it to each node.
//!
//! Pairs are made inside the fabric's namespace with their far end already in the node's, so no device ever appears on
//! the host. The fabric has no way out.

use std::{fs, io, os::fd::AsFd as _, os::fd::AsRawFd as _, path::Path};

use futures::TryStreamExt as _;
use netlink_packet_route::{
    address::AddressHeaderFlags,
    link::{InfoData, InfoVeth, LinkAttribute},
};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, new_connection};

use crate::{
    family::{Family, IpFamily, Station},
    netns,
    netns::Netns,
};

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
    /// A sysctl of a namespace.
    #[error("writing /proc/sys/{0}")]
    Sysctl(&'static str, #[source] io::Error),
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
    fabric.run(|| _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"))?;
    with_netlink(fabric, async |handle| {
        let bridge = LinkBridge::new(BRIDGE).build();
        handle.link().add(bridge).execute().await.map_err(refused("add bridge", BRIDGE))?;
        up(handle, "lo").await
    })
}

/// Joins `far` to the fabric: `eth0` there with the station's addresses, the other end is the bridge's port `port`.
///
/// An old port of that name (of a node that was cut off) is replaced.
pub fn plug(fabric: &Netns, port: &str, far: &Netns, station: Station, families: IpFamily) -> Result<(), Error> {
    let far_fd = far.as_fd().as_raw_fd();
    if families.has(Family::V6) {
        far.run(static_ipv6)??;
    }
    with_netlink(fabric, async |handle| {
        if let Some(old) = index(handle, port).await {
            // It may go by itself meanwhile: its far namespace is being torn down.
            _ = handle.link().del(old).execute().await;
        }
        let bridge = index(handle, BRIDGE).await.ok_or_else(|| Error::Gone(BRIDGE.to_owned()))?;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(DEVICE)
            .append_extra_attribute(LinkAttribute::NetNsFd(far_fd))
            .address(station.mac().to_vec())
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
        for family in families.families() {
            let mut request = handle.address().add(device, family.address(station), family.fabric_prefix());
            if *family == Family::V6 {
                request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            }
            request.execute().await.map_err(refused("add address to", DEVICE))?;
        }
        Ok(())
    })
}

/// Devices that are made in this namespace from now on use IPv6, take no addresses from router advertisements, and use their
/// own at once: every address of the fabric is its station's alone, and who comes back after a power cut must not wait.
fn static_ipv6() -> Result<(), Error> {
    let settings = [
        "net/ipv6/conf/default/disable_ipv6",
        "net/ipv6/conf/all/disable_ipv6",
        "net/ipv6/conf/default/accept_dad",
        "net/ipv6/conf/default/accept_ra",
    ];
    settings.into_iter().try_for_each(|name| {
        fs::write(Path::new("/proc/sys").join(name), "0").map_err(|source| Error::Sysctl(name, source))
    })
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
