//! The few rtnetlink requests that the agent needs, each idempotent, each error naming what was asked.
//!
//! A [`Netlink`] speaks for the network namespace of the thread that made it, for ever.
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use futures::{StreamExt, TryStreamExt};
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkMessage},
    route::RouteProtocol,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, MulticastGroup};

pub mod departure;
pub mod direct;
mod list;
pub mod request;
mod routes;
pub mod tc;

pub use routes::Hop;

use crate::pods::is_device;
use request::Request;

/// `rtm_protocol` of our routes ("weft" has no number of its own): how cleanup knows them.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(87);

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {object}")]
pub struct NetlinkError {
    /// "add the device", "read the routes of", …
    pub operation: &'static str,
    /// Name, address or prefix.
    pub object: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl NetlinkError {
    /// True if the object was there already.
    pub fn exists(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
    }
}

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Interface index.
    pub index: u32,
    /// MAC address; zero if it has none.
    pub mac: [u8; 6],
    /// MTU.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Index of a veth's other end, in whichever namespace that is; else 0.
    pub peer: u32,
}

/// One end of a pair to be.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// Name.
    pub name: &'a str,
    /// MAC address.
    pub mac: [u8; 6],
}

/// A connection to the kernel.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
    turn: list::Turn,
}

impl Netlink {
    /// Opens a connection for the network namespace of this thread. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> Result<Netlink, NetlinkError> {
        let failed = |source| NetlinkError { operation: "open", object: "rtnetlink".into(), source };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        Ok(Netlink { handle, turn: list::Turn::default() })
    }

    /// The connection itself, for requests that have a module of their own.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// All devices.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.list("devices", |handle| handle.link().get().execute()).await?;
        Ok(links.iter().map(link).collect())
    }

    /// The device of that name.
    ///
    /// # Errors
    /// What the kernel said, that there is none apart.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let found = self.handle.link().get().match_name(name).execute().try_next().await;
        match found.map_err(refused("read the device", name)) {
            Ok(found) => Ok(found.as_ref().map(link)),
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The device that has this address.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn link_of(&self, address: IpAddr) -> Result<Option<Link>, NetlinkError> {
        let rows = self.list("addresses", |handle| handle.address().get().execute()).await?;
        let Some(row) = rows.iter().find(|row| own(row) == Some(address)) else { return Ok(None) };
        Ok(self.links().await?.into_iter().find(|link| link.index == row.header.index))
    }

    /// Every address of this machine but loopback's and link-local ones, each once.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut all: Vec<IpAddr> = Vec::new();
        let mut seen = BTreeSet::new();
        for address in self.addresses_by_device().await?.into_values().flatten() {
            if seen.insert(address) {
                all.push(address);
            }
        }
        Ok(all)
    }

    /// The same by interface index.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn addresses_by_device(&self) -> Result<BTreeMap<u32, Vec<IpAddr>>, NetlinkError> {
        let rows = self.list("addresses", |handle| handle.address().get().execute()).await?;
        let local = |address: &IpAddr| match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
        };
        let mut devices: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
        for row in &rows {
            let address = own(row).filter(|address| !local(address));
            devices.entry(row.header.index).or_default().extend(address);
        }
        devices.retain(|_, addresses| !addresses.is_empty());
        Ok(devices)
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// What the kernel said.
    async fn ask(&self, request: Request) -> Result<(), NetlinkError> {
        let failed = |error: rtnetlink::Error| request.refused(io::Error::other(error.to_string()));
        let mut answers = self.handle().request(request.message.clone()).map_err(failed)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(request.refused(error.to_io()));
            }
        }
        Ok(())
    }

    /// Adds a veth pair.
    ///
    /// # Errors
    /// What the kernel said; see [`NetlinkError::exists`].
    pub async fn add_pair(&self, near: &End<'_>, far: &End<'_>, mtu: u32) -> Result<(), NetlinkError> {
        self.ask(Request::pair(near, far, mtu, None)).await
    }

    /// Adds the flow-based VXLAN device: whom a packet goes to is said packet by packet.
    ///
    /// # Errors
    /// What the kernel said; see [`NetlinkError::exists`].
    pub async fn add_vxlan(&self, end: End<'_>, port: u16, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkVxlan>::new(end.name)
            .collect_metadata(true)
            .port(port)
            .learning(false)
            .address(end.mac.to_vec())
            .mtu(mtu)
            .build();
        self.handle.link().add(message).execute().await.map_err(refused("add the device", end.name))
    }

    /// Sets a device up.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn set_up(&self, link: &Link) -> Result<(), NetlinkError> {
        self.ask(Request::up(link)).await
    }

    /// Sets a device's MTU and MAC address.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn set(&self, link: &Link, mac: [u8; 6], mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).address(mac.to_vec()).mtu(mtu).build();
        self.handle.link().set(message).execute().await.map_err(refused("change the device", &link.name))
    }

    /// Sets a device's MTU.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu).build();
        self.handle.link().set(message).execute().await.map_err(refused("change the MTU of the device", &link.name))
    }

    /// Removes a device; false if it is not there.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn remove(&self, name: &str) -> Result<bool, NetlinkError> {
        match self.link(name).await? {
            Some(link) => self.remove_link(&link).await,
            None => Ok(false),
        }
    }

    /// Removes this very device, not another one of its name; false if it is gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn remove_link(&self, link: &Link) -> Result<bool, NetlinkError> {
        match self.handle.link().del(link.index).execute().await.map_err(refused("remove the device", &link.name)) {
            Err(error) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// True if the device has the address.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn has_address(&self, link: &Link, address: IpAddr) -> Result<bool, NetlinkError> {
        let index = link.index;
        let rows = self.list("addresses", move |handle| handle.address().get().set_link_index_filter(index).execute());
        let rows = rows.await?;
        Ok(rows.iter().any(|row| own(row) == Some(address)))
    }

    /// A neighbour that is never asked for.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn set_neighbour(&self, link: &Link, address: IpAddr, mac: [u8; 6]) -> Result<(), NetlinkError> {
        self.ask(Request::neighbour(link, address, mac)).await
    }

    /// A route through `gateway`, which need not be on a network of the device. All addresses are of one family.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn set_route(
        &self,
        link: &Link,
        to: IpNetwork,
        gateway: Option<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<(), NetlinkError> {
        self.ask(Request::route(link, to, gateway, source)?).await
    }
}

/// Tells whenever a device, an address or a route of this namespace changes; several changes may come as one. Pods' devices
/// are ours: that they come and go is told by nobody.
///
/// # Errors
/// No socket.
pub fn changes() -> Result<impl futures::Stream<Item = ()> + Unpin, NetlinkError> {
    let failed = |source| NetlinkError { operation: "listen to", object: "rtnetlink".into(), source };
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(failed)?;
    tokio::spawn(connection);
    let tells = |message: &NetlinkMessage<RouteNetlinkMessage>| match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(device) | RouteNetlinkMessage::DelLink(device)) => {
            !is_device(&link(device).name)
        }
        _ => true,
    };
    Ok(Box::pin(messages.filter_map(move |(message, _)| std::future::ready(tells(&message).then_some(())))))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The address that a device has itself. IPv4 tells the far end of a point-to-point link beside it; IPv6 has only one.
fn own(row: &AddressMessage) -> Option<IpAddr> {
    let v6 = row.header.family == AddressFamily::Inet6;
    row.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        AddressAttribute::Address(ip) if v6 => Some(*ip),
        _ => None,
    })
}

fn link(message: &LinkMessage) -> Link {
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link { name: String::new(), index: message.header.index, mac: [0; 6], mtu: 0, up, peer: 0 };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = *peer,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
            _ => {}
        }
    }
    link
}

fn refused(operation: &'static str, object: &str) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |error| {
        let source = match &error {
            rtnetlink::Error::NetlinkError(message) => io::Error::from_raw_os_error(-message.raw_code()),
            other => io::Error::other(other.to_string()),
        };
        NetlinkError { operation, object: object.to_owned(), source }
    }
}
