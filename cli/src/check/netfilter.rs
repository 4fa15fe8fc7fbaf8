//! No netfilter rule in any node: neither nf_tables' nor the legacy tables'.
use std::{fs, io, os::fd::AsRawFd as _};

use local_cluster::Cluster;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use super::report::Report;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFT_MSG_NEWTABLE` and `NFT_MSG_GETTABLE`.
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;

/// Looks in every node's network.
pub(super) fn absent(cluster: &Cluster, report: &mut Report) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    let nodes = cluster.spec.node_names();
    for node in &nodes {
        for found in cluster.node_netns(node)?.run(rules)?? {
            broken.push(format!("{node}: {found}"));
        }
    }
    report.add("no nftables or iptables rule in any node", nodes.len(), broken);
    Ok(())
}

fn rules() -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    if nf_tables()? {
        found.push("an nf_tables table".to_owned());
    }
    for file in ["ip_tables_names", "ip6_tables_names", "arp_tables_names"] {
        // Absent where the kernel has no legacy tables.
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        found.extend(names.lines().map(|name| format!("the legacy table {name} of {file}")));
    }
    Ok(found)
}

/// True if the namespace has an nf_tables table. A kernel without nf_tables has none.
fn nf_tables() -> io::Result<bool> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let Ok(socket) = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol) else {
        return Ok(false);
    };
    // nlmsghdr (16 bytes) and nfgenmsg (4): family unspecified, version 0.
    let mut request = Vec::with_capacity(20);
    request.extend(20_u32.to_ne_bytes());
    request.extend((NFTABLES << 8 | GET_TABLE).to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 12]);
    sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 8192];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).filter(|_| length >= 16).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    match kind {
        Some(ERROR) | None => Ok(false),
        Some(kind) => Ok(kind == NFTABLES << 8 | NEW_TABLE),
    }
}
