//! eBPF without features: the least that any eBPF network does, and so the limit of ours.
use abi::config::GATEWAY_MAC;
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TcAttachType},
};

#[path = "../../../ebpf/bench/way.rs"]
mod way;
use way::{DEVICE, PEER, TUNNEL, WAYS, Way};

use super::{
    lab::Path,
    plain::{self, CLIENT, FAR, NEAR},
};
use crate::{
    Args, object,
    space::{command, inside, ip},
    tables,
};

/// What keeps programs attached.
pub(crate) type Programs = Vec<Ebpf>;

/// An entry of a VXLAN device's forwarding table.
pub(crate) fn forward(node: &str, mac: &str, remote: &str) -> anyhow::Result<()> {
    command("bridge", &format!("-n {node} fdb append {mac} dev flannel dst {remote}"))
}

/// The program on devices of a node, with its ways by the last byte of the destination.
fn attach(args: &Args, node: &str, devices: &[&str], ways: &[(u8, Way)]) -> anyhow::Result<Ebpf> {
    let file = args.object.with_file_name("bpfel-unknown-none").join("release/weft-bpf-bare");
    anyhow::ensure!(file.exists(), "{} is missing: run cargo xtask build", file.display());
    let devices: Vec<String> = devices.iter().map(|&device| device.to_owned()).collect();
    let mut rows = [Way::default(); WAYS as usize];
    ways.iter().for_each(|(last, way)| rows[usize::from(*last)] = *way);
    inside(node, move || {
        let mut bpf = EbpfLoader::new().load_file(&file)?;
        for (_, program) in bpf.programs_mut() {
            <&mut SchedClassifier>::try_from(program)?.load()?;
        }
        tables::array(&mut bpf, "BARE", (0..).zip(rows.iter().map(tables::raw::<24>)))?;
        devices.iter().try_for_each(|device| object::attach(&mut bpf, "bare", device, TcAttachType::Ingress))?;
        Ok(bpf)
    })
}

fn words(mac: [u8; 6]) -> [u16; 3] {
    [0, 2, 4].map(|at| u16::from_ne_bytes([mac[at], mac[at + 1]]))
}

fn way(kind: u32, ifindex: u32, to: [u8; 6]) -> Way {
    Way { kind, ifindex, remote: 0, to: words(to), from: words(GATEWAY_MAC) }
}

/// Into a pod of this node.
fn to_pod(last: u8) -> (u8, Way) {
    (last, way(PEER, 100 + u32::from(last), [2, 0, 0, 0, 0, last]))
}

/// Between two pods of one node.
pub(crate) fn bare_peer(args: &Args, programs: &mut Programs) -> anyhow::Result<Path> {
    let path = Path::new("same node: bare redirect_peer, no features", "peer", NEAR);
    plain::node("peer-1")?;
    let hosts = [plain::pod("peer-1", &path.client, CLIENT, 1_500)?, plain::pod("peer-1", &path.server, NEAR, 1_500)?];
    programs.push(attach(args, "peer-1", &[&hosts[0], &hosts[1]], &[to_pod(2), to_pod(3)])?);
    Ok(path)
}

/// Between two nodes, by the NIC.
pub(crate) fn bare_nic(args: &Args, programs: &mut Programs) -> anyhow::Result<Path> {
    let hosts = plain::two_nodes("nic", 1_500)?;
    for (number, near, far, host) in [(1_u8, 2_u8, 3_u8, &hosts[0]), (2, 3, 2, &hosts[1])] {
        let out = (far, way(DEVICE, 20, [2, 0, 0, 0, 1, 3 - number]));
        programs.push(attach(args, &format!("nic-{number}"), &[host, "eth0"], &[to_pod(near), out])?);
    }
    Ok(Path::new("two nodes: bare eBPF redirect to the NIC, no features", "nic", FAR))
}

/// Between two nodes, by the collect-metadata VXLAN device.
pub(crate) fn bare_device(args: &Args, programs: &mut Programs) -> anyhow::Result<Path> {
    let hosts = plain::two_nodes("device", 1_450)?;
    for (number, near, far, host) in [(1_u8, 2_u8, 3_u8, &hosts[0]), (2, 3, 2, &hosts[1])] {
        let node = format!("device-{number}");
        ip(&format!("-n {node} link add overlay index 30 address ee:ee:ee:ee:ee:ee type vxlan external dstport 8472"))?;
        ip(&format!("-n {node} link set overlay mtu 1450 up"))?;
        let remote = u32::from_be_bytes([172, 31, 0, 13 - number]);
        let from = words(abi::config::OVERLAY_SOURCE_MAC);
        let out = (far, Way { remote, from, ..way(TUNNEL, 30, GATEWAY_MAC) });
        programs.push(attach(args, &node, &[host, "overlay"], &[to_pod(near), out])?);
    }
    Ok(Path::new("two nodes: bare collect-metadata VXLAN device, no features", "device", FAR))
}
