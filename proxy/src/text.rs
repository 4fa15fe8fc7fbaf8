//! The one text form of service tables: sorted, a row a line.
use std::fmt;

use abi::service::{SCOPE_NODE_PORT, ServiceKey};

use crate::{BackendAddr, Output, ServiceName, slots::Slots};

/// The protocol's name in the API, or `proto`.
pub fn proto_name(proto: u8) -> &'static str {
    match proto {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPv6",
        132 => "SCTP",
        _ => "proto",
    }
}

/// A service's address: `TCP 10.96.0.1:443`, `TCP nodeport 30080`.
pub struct KeyText<'a>(pub &'a ServiceKey);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceKey { addr, port, proto, scope } = self.0;
        let (proto, port) = (proto_name(*proto), u16::from_be(*port));
        match *scope {
            SCOPE_NODE_PORT => write!(f, "{proto} nodeport {port}"),
            _ => write!(f, "{proto} {}", std::net::SocketAddr::new((*addr).into(), port)),
        }
    }
}

impl fmt::Display for BackendAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.addr.into(), self.port).fmt(f)
    }
}

/// `namespace/name:port`, the port by name if it has one.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.port_name {
            "" => write!(f, "{}:{}", self.service, self.port),
            name => write!(f, "{}:{name}", self.service),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, entry) in &self.services {
            write!(
                f,
                "SERVICES {} -> service {:08x} affinity {} backends",
                KeyText(key),
                entry.service,
                entry.affinity
            )?;
            entry.backends.iter().try_for_each(|backend| write!(f, " {backend}"))?;
            writeln!(f)?;
        }
        for (backend, node) in &self.backends {
            let node = node.as_deref().unwrap_or("?");
            writeln!(f, "BACKENDS {} {backend} on {node}", proto_name(backend.proto))?;
        }
        for (id, name) in &self.names {
            writeln!(f, "service {id:08x} = {name} {}", proto_name(name.proto))?;
        }
        self.issues.iter().try_for_each(|issue| writeln!(f, "issue {issue}"))
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, row) in &self.services {
            writeln!(
                f,
                "SERVICES {} -> service {:08x} slots {}+{}",
                KeyText(key),
                row.service,
                row.first_slot,
                row.count
            )?;
        }
        for (slot, backend) in &self.slots {
            writeln!(f, "SLOTS {slot} -> backend {backend}")?;
        }
        for (id, row) in &self.backends {
            write!(f, "BACKENDS {id} -> ")?;
            if row.flags & abi::service::ALIVE == 0 {
                writeln!(f, "free generation {}", row.generation)?;
                continue;
            }
            let address = std::net::SocketAddr::new(row.addr.into(), u16::from_be(row.port));
            let proto = proto_name(row.proto);
            writeln!(f, "{proto} {address} generation {} pod {} node {}", row.generation, row.pod, row.node)?;
        }
        Ok(())
    }
}
