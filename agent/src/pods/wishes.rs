//! Wishes held against the node as it is: host ports against its programs and NodePorts, limits put on the device.
use std::{
    net::{IpAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use abi::service::SCOPE_NODE_PORT;

use super::{PodError, Pods};
use crate::{
    bandwidth,
    cni::wishes::{HostPort, WishError},
    ipam::Entry,
    netlink::Netlink,
};

impl Pods {
    /// The Pod object of an interface, if the API server has told of it.
    pub(super) fn pod(&self, entry: &Entry) -> Option<Arc<objects::Pod>> {
        let pods = self.inbox.snapshot().pods;
        let pod = pods.get(&objects::Key::new(entry.namespace.as_str(), entry.name.as_str()));
        pod.filter(|pod| pod.goes_by(&entry.uid)).cloned()
    }

    /// Host ports that no program of the node and no NodePort has. Other pods' are the ledger's affair.
    pub(super) fn may_have_ports(&self, entry: &Entry) -> Result<(), WishError> {
        let facts = self.inbox.snapshot().node;
        let own: Vec<IpAddr> = facts.own.iter().chain(&facts.addresses).copied().collect();
        for port in &entry.wishes.host_ports {
            let mut answering = own.iter().filter(|address| port.answers(**address)).peekable();
            if answering.peek().is_none() {
                let why = "is no address of this node that pods' packets come to: leave hostIP out, or take one of the node's";
                let value = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
                return Err(WishError::Invalid { field: "hostIP".into(), value, why });
            }
            if answering.any(|address| listens(*address, port)) {
                return Err(WishError::Taken { what: port.to_string(), owner: "a program of the node".into() });
            }
            let in_force = self.in_force.borrow();
            let node_port = in_force.tables.services.iter().find(|(key, _)| {
                key.scope == SCOPE_NODE_PORT && key.proto == port.proto && u16::from_be(key.port) == port.port
            });
            if let Some((_, row)) = node_port {
                let name = in_force.compiled.names.services.get(&row.service);
                let owner = name.map_or_else(String::new, |name| name.service.to_string());
                return Err(WishError::Taken { what: port.to_string(), owner: format!("NodePort of Service {owner}") });
            }
        }
        Ok(())
    }

    /// Puts the limit of what the pod receives on its device.
    pub(super) async fn limit(&self, entry: &Entry, pod: Option<&objects::Pod>) -> Result<(), PodError> {
        let [Some(rate), _] = entry.wishes.rates(pod)? else { return Ok(()) };
        let netlink = Netlink::open()?;
        let link = netlink.link(&entry.device).await?.ok_or(PodError::Missing("the host's end"))?;
        Ok(bandwidth::limit(netlink.handle(), &link, rate).await?)
    }
}

/// True if a socket has the port: the host port would take its packets away.
fn listens(address: IpAddr, port: &HostPort) -> bool {
    let at = (address, port.port);
    let failed = if port.proto == 6 { TcpListener::bind(at).err() } else { UdpSocket::bind(at).err() };
    failed.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}
