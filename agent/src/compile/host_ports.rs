//! Host ports of this node's pods among the wanted services: a row per address of the node, one backend, no netfilter.
//!
//! A host port is of one pod of one node, so its rows name the node's addresses and stand on no other node.
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use abi::service::{SCOPE_CLUSTER, SCOPE_HOST_PORT, ServiceKey};
use objects::{Issue, content};
use proxy::{BackendAddr, Entry, Output, ServiceName};

use crate::snapshot::{Attachment, Snapshot};

/// The wanted services, and the host ports of all attachments.
pub(super) fn add<'a>(mut wanted: Cow<'a, Output>, snapshot: &Snapshot, own: &[IpAddr]) -> Cow<'a, Output> {
    for attachment in snapshot.attachments.iter().filter(|a| !a.wishes.host_ports.is_empty()) {
        one(wanted.to_mut(), attachment, snapshot, own);
    }
    wanted
}

fn one(wanted: &mut Output, attachment: &Attachment, snapshot: &Snapshot, own: &[IpAddr]) {
    for port in &attachment.wishes.host_ports {
        let name = ServiceName {
            service: attachment.pod.clone(),
            port_name: "hostPort".into(),
            port: port.port,
            proto: port.proto,
        };
        let text = format!("host port {}:{}/{}", attachment.pod, port.port, port.proto);
        let ids = (0..).map(|salt| content::hash(&text, salt) as u32);
        let service = ids.into_iter().find(|id| *id != 0 && wanted.names.get(id).is_none_or(|known| *known == name));
        let service = service.expect("there are fewer services than ids");
        wanted.names.insert(service, name.clone());
        for address in own.iter().filter(|address| port.answers(**address)) {
            let to = attachment.addresses.iter().find(|to| to.is_ipv4() == address.is_ipv4());
            let Some(to) = to.copied() else { continue };
            let backend = BackendAddr { addr: to.into(), port: port.container_port, proto: port.proto };
            wanted.backends.entry(backend).or_insert_with(|| Some(snapshot.node.name.clone()));
            for scope in [SCOPE_CLUSTER, SCOPE_HOST_PORT] {
                let key = ServiceKey { addr: (*address).into(), port: port.port.to_be(), proto: port.proto, scope };
                let entry = Entry { service, flags: 0, affinity: 0, backends: vec![backend] };
                let Some(old) = wanted.services.insert(key, entry) else { continue };
                let owner = wanted.names.get(&old.service).map(|name| name.service.clone()).unwrap_or_default();
                let message = format!("{address}:{} is a host port of pod {}: that has it", port.port, attachment.pod);
                wanted.issues.push(Issue { kind: "Service", key: owner, reason: "ServiceAddressConflict", message });
            }
        }
    }
}

/// The addresses of the host that a pod has: every key of `PODS` that stands for the host.
pub(super) fn own(pods: &BTreeMap<abi::Addr, abi::pod::PodId>) -> Vec<IpAddr> {
    pods.iter().filter(|(_, pod)| **pod == abi::pod::HOST).map(|(addr, _)| IpAddr::from(*addr)).collect()
}
