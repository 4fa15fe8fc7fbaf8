//! What the kernel does without us: the limit, and what others are built of.
use std::net::Ipv4Addr;

use super::lab::{KERNEL_VXLAN, Path};
use crate::space::{inside, ip, make};

/// The name of the path that all are compared with.
pub(crate) const LIMIT: &str = "veth pair, nothing in between (the limit)";
/// The client, everywhere; its server on the same node and on another one.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 3);
/// The gateway that pods see.
const GATEWAY: &str = "169.254.1.1";
/// MAC address of every host end.
pub(crate) const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";

/// MAC address of a pod.
pub(crate) fn mac(address: Ipv4Addr) -> String {
    format!("02:00:00:00:00:{:02x}", address.octets()[3])
}

/// A namespace that forwards.
pub(crate) fn node(name: &str) -> anyhow::Result<()> {
    make(name)?;
    inside(name, || {
        for (key, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), ("conf/default/rp_filter", "0")] {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value)?;
        }
        Ok(())
    })
}

/// A pod behind a node: `eth0` inside, the device `host` of the given index outside, gateway and neighbour as CNI makes them.
pub(crate) fn pod(node: &str, name: &str, address: Ipv4Addr, mtu: u32) -> anyhow::Result<String> {
    let last = u32::from(address.octets()[3]);
    let (host, index) = (format!("pod{last}"), 100 + last);
    make(name)?;
    ip(&format!("-n {node} link add {host} index {index} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}"))?;
    ip(&format!("-n {node} link set {host} address {HOST_MAC} up"))?;
    ip(&format!("-n {name} link set eth0 address {} up", mac(address)))?;
    ip(&format!("-n {name} addr add {address}/32 dev eth0"))?;
    ip(&format!("-n {name} route add {GATEWAY} dev eth0 scope link"))?;
    ip(&format!("-n {name} route add default via {GATEWAY} dev eth0"))?;
    ip(&format!("-n {name} neigh add {GATEWAY} lladdr {HOST_MAC} dev eth0 nud permanent"))?;
    Ok(host)
}

/// A host route to a pod, as routing plugins make it.
fn route_to_pod(node: &str, host: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    ip(&format!("-n {node} route add {address}/32 dev {host} scope link"))?;
    ip(&format!("-n {node} neigh add {address} lladdr {} dev {host} nud permanent", mac(address)))
}

/// Two nodes on one wire, a pod on each. Names of the pods' host ends.
pub(crate) fn two_nodes(prefix: &str, mtu: u32) -> anyhow::Result<[String; 2]> {
    let nodes = [format!("{prefix}-1"), format!("{prefix}-2")];
    nodes.iter().try_for_each(|name| node(name))?;
    let [first, second] = &nodes;
    ip(&format!("link add eth0 index 20 netns {first} type veth peer name eth0 index 20 netns {second}"))?;
    for (number, node) in (1..).zip(&nodes) {
        ip(&format!("-n {node} link set eth0 address 02:00:00:00:01:0{number} up"))?;
        ip(&format!("-n {node} addr add 172.31.0.1{number}/24 dev eth0"))?;
        let other = 3 - number;
        let to = format!("172.31.0.1{other} lladdr 02:00:00:00:01:0{other}");
        ip(&format!("-n {node} neigh add {to} dev eth0 nud permanent"))?;
    }
    Ok([pod(first, &format!("{prefix}-c"), CLIENT, mtu)?, pod(second, &format!("{prefix}-s"), FAR, mtu)?])
}

fn routes(prefix: &str, hosts: &[String; 2], way: impl Fn(u32) -> String) -> anyhow::Result<()> {
    for (number, address, host) in [(1, CLIENT, &hosts[0]), (2, FAR, &hosts[1])] {
        let node = format!("{prefix}-{number}");
        route_to_pod(&node, host, address)?;
        let other = 3 - number;
        ip(&format!("-n {node} route add 10.244.{other}.0/24 {}", way(other)))?;
    }
    Ok(())
}

/// The limit: nothing between the ends.
pub(crate) fn veth() -> anyhow::Result<Path> {
    let path = Path::new(LIMIT, "veth", NEAR);
    make(&path.client)?;
    make(&path.server)?;
    ip(&format!("link add eth0 netns {} type veth peer name eth0 netns {}", path.client, path.server))?;
    for (name, address) in [(&path.client, CLIENT), (&path.server, NEAR)] {
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
    }
    Ok(path)
}

/// What the bridge plugin makes.
pub(crate) fn bridge() -> anyhow::Result<Path> {
    let path = Path::new("same node: Linux bridge", "bridge", NEAR);
    node("bridge-1")?;
    ip("-n bridge-1 link add br0 type bridge")?;
    ip("-n bridge-1 link set br0 up")?;
    for (name, address) in [(&path.client, CLIENT), (&path.server, NEAR)] {
        make(name)?;
        let host = format!("pod{}", address.octets()[3]);
        ip(&format!("-n bridge-1 link add {host} type veth peer name eth0 netns {name}"))?;
        ip(&format!("-n bridge-1 link set {host} master br0 up"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
    }
    Ok(path)
}

/// What the ptp plugin and Calico's routing mode make, without rules.
pub(crate) fn routed() -> anyhow::Result<Path> {
    let path = Path::new("same node: kernel routing, no rules", "routed", NEAR);
    node("routed-1")?;
    for (name, address) in [(&path.client, CLIENT), (&path.server, NEAR)] {
        let host = pod("routed-1", name, address, 1_500)?;
        route_to_pod("routed-1", &host, address)?;
    }
    Ok(path)
}

/// Kernel routing between nodes.
pub(crate) fn two_nodes_routed() -> anyhow::Result<Path> {
    let hosts = two_nodes("native", 1_500)?;
    routes("native", &hosts, |other| format!("via 172.31.0.1{other} dev eth0"))?;
    Ok(Path::new("two nodes: kernel routing, no rules", "native", FAR))
}

/// And with the rules that go with it: conntrack, masquerade, an accepting forward chain.
pub(crate) fn two_nodes_masquerade() -> anyhow::Result<Path> {
    let hosts = two_nodes("rules", 1_500)?;
    routes("rules", &hosts, |other| format!("via 172.31.0.1{other} dev eth0"))?;
    let path = Path::new("two nodes: kernel routing + masquerade and forward rules (nftables)", "rules", FAR);
    std::fs::write("/run/rules.nft", RULES)?;
    for number in 1..=2 {
        let nft = || std::process::Command::new("nft").args(["-f", "/run/rules.nft"]).output();
        match inside(&format!("rules-{number}"), move || Ok(nft()))? {
            Ok(output) if output.status.success() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Path { ready: false, ..path }),
            Ok(output) => anyhow::bail!("nft: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(path)
}

const RULES: &str = "
table ip pods {
  chain prerouting { type nat hook prerouting priority dstnat; }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    ct state established,related accept
    ip saddr 10.244.0.0/16 accept
    ip daddr 10.244.0.0/16 accept
  }
}
";

/// What flannel makes: a VXLAN device with permanent neighbours, and a route by it.
pub(crate) fn two_nodes_vxlan() -> anyhow::Result<Path> {
    let hosts = two_nodes("vxlan", 1_450)?;
    for number in [1, 2] {
        let (node, other) = (format!("vxlan-{number}"), 3 - number);
        ip(&format!(
            "-n {node} link add flannel type vxlan id 1 dev eth0 dstport 8472 nolearning local 172.31.0.1{number}"
        ))?;
        ip(&format!("-n {node} link set flannel address 02:00:00:00:02:0{number} mtu 1450 up"))?;
        ip(&format!("-n {node} addr add 10.244.{number}.0/32 dev flannel"))?;
        let mac = format!("02:00:00:00:02:0{other}");
        ip(&format!("-n {node} neigh add 10.244.{other}.0 lladdr {mac} dev flannel nud permanent"))?;
        super::nodes::forward(&node, &mac, &format!("172.31.0.1{other}"))?;
    }
    routes("vxlan", &hosts, |other| format!("via 10.244.{other}.0 dev flannel onlink"))?;
    Ok(Path::new(KERNEL_VXLAN, "vxlan", FAR))
}
