//! What changes on the node while the agent runs: its MTU and its addresses.
use std::net::UdpSocket;

use agent_api::{
    AgentClient,
    v1::{RouteListRequest, StatusReply, StatusRequest, route_list_reply::Route},
};
use serde_json::json;

use crate::{Api, Namespace, Node, SECOND, namespaces::sh, on_a_node, reaches, serve};

const NODES: &str = "/api/v1/nodes";

async fn status(node: &Node) -> StatusReply {
    AgentClient::new(node.channel().await).status(StatusRequest {}).await.expect("served").into_inner()
}

/// Waits until a question has the answer that is wanted.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + 60 * SECOND;
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(SECOND / 20).await;
    }
}

fn mtu_of(device: &str) -> String {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", device]).output().expect("iproute2");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(" mtu ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned()
}

fn mtu_in(pod: &Namespace) -> String {
    pod.within(|| mtu_of("eth0"))
}

/// Native mode leaves no room for an outer header; a pod that runs gets the other mode's MTU with the agent that starts.
#[test]
fn pods_follow_the_mode() {
    on_a_node(|directory, _outside| async move {
        let mut node = Node::start(&directory, &["--routing", "native"]).await;
        let (a, _) = node.pod("a").await;
        assert_eq!((status(&node).await.pod_mtu, mtu_in(&a)), (1_500, "1500".to_owned()));
        // What goes by VXLAN all the same is told what fits that.
        other_node(&node.api, "n2", "172.31.7.2", "10.244.1.0/24");
        sh("ip route del default");
        goes(&node, "vxlan", "172.31.7.2", "no route to 10.244.1.0/24").await;
        until("the row", async || node.table("NODES").await.contains(" mtu 1450")).await;
        assert_eq!(mtu_in(&a), "1500");
        sh("ip link set nic0 mtu 1400");
        until("the MTU", async || mtu_in(&a) == "1400" && status(&node).await.pod_mtu == 1_400).await;
        sh("ip link set nic0 mtu 1500");
        until("the MTU", async || mtu_in(&a) == "1500").await;
        for (extra, pods) in
            [(&["--routing", "vxlan", "--accept-native"][..], "1450"), (&["--routing", "native"], "1500")]
        {
            node.extra = extra;
            node.restart().await;
            until("the mode's MTU", async || mtu_in(&a) == pods && mtu_of("weft_host") == pods).await;
        }
    });
}

#[test]
fn mtu_and_addresses_are_followed() {
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, &[]).await;
        let (a, a_address) = node.pod("a").await;
        assert_eq!((status(&node).await.pod_mtu, mtu_in(&a)), (1_450, "1450".to_owned()));
        for (nic, pods) in [(1_400, 1_350), (1_500, 1_450)] {
            sh(&format!("ip link set nic0 mtu {nic}"));
            until("the MTU", async || status(&node).await.pod_mtu == pods).await;
            for device in ["weft_host", "weft_net", "weft_vxlan"] {
                assert_eq!(mtu_of(device), pods.to_string(), "{device}");
            }
            assert_eq!(mtu_in(&a), pods.to_string());
        }
        // An address that the host gets is the host's for pods too, and nobody's when it goes.
        sh("ip addr add 192.168.77.1/24 dev nic0");
        until("the address", async || node.table("PODS").await.contains("192.168.77.1")).await;
        let (b, b_address) = node.pod("b").await;
        serve(&b, b_address, 8080);
        reaches(&a, b_address, 8080, a_address);
        sh("ip addr del 192.168.77.1/24 dev nic0");
        until("the address to go", async || !node.table("PODS").await.contains("192.168.77.1")).await;
    });
}

async fn routes(node: &Node) -> Vec<Route> {
    AgentClient::new(node.channel().await).route_list(RouteListRequest {}).await.expect("served").into_inner().routes
}

/// Another node, as its object says; `range` is its pods'.
fn other_node(api: &Api, name: &str, ip: &str, range: &str) {
    let addresses = json!([{ "type": "InternalIP", "address": ip }]);
    let status = json!({ "addresses": addresses });
    api.put(NODES, json!({ "metadata": { "name": name }, "spec": { "podCIDR": range }, "status": status }));
}

/// Waits until the way to the other node is this one.
async fn goes(node: &Node, way: &str, via: &str, why: &str) {
    until(&format!("{way} via {via}, since {why}"), async || {
        let status = status(node).await;
        let peer = status.peers.iter().find(|peer| peer.node == "n2" && peer.family == "ipv4");
        peer.is_some_and(|peer| (&*peer.way, &*peer.via) == (way, via) && peer.reason.contains(why))
    })
    .await;
}

/// The other node is on the segment, then beyond a router, then nowhere; its range becomes another.
#[test]
fn ways_to_other_nodes_are_followed() {
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, &["--routing", "native"]).await;
        other_node(&node.api, "n2", "172.31.0.2", "10.244.1.0/24");
        goes(&node, "native", "172.31.0.2", "on a segment with this node by nic0").await;
        let list = routes(&node).await;
        let row = list.iter().find(|row| row.prefix == "10.244.1.0/24").expect("a row");
        assert_eq!((&*row.node, &*row.way, &*row.via), ("n2", "native", "172.31.0.2"));
        other_node(&node.api, "n2", "172.31.7.2", "10.244.1.0/24");
        goes(&node, "native", "172.31.0.2", "the kernel's route to 10.244.1.0/24").await; // The default route.
        sh("ip route add 10.244.1.0/24 via 172.31.0.9 dev nic0");
        goes(&node, "native", "172.31.0.9", "the kernel's route").await;
        sh("ip route del 10.244.1.0/24");
        sh("ip route del default");
        goes(&node, "vxlan", "172.31.7.2", "no route to 10.244.1.0/24").await;
        let issue = status(&node).await.issues.into_iter().find(|issue| issue.name == "n2").expect("an issue");
        assert!(issue.message.starts_with("NoRoute: ") && issue.message.contains("--routing auto"), "{issue:?}");
        sh("ip route add default via 172.31.0.2");
        other_node(&node.api, "n2", "172.31.7.2", "10.244.9.0/24");
        goes(&node, "native", "172.31.0.2", "the kernel's route to 10.244.9.0/24").await;
        assert!(routes(&node).await.iter().all(|row| row.prefix != "10.244.1.0/24"), "the old range is gone");
    });
}

/// A second NIC is told of; when the node's address moves there, or becomes another, the agent ends, and the next one
/// has the node as it is.
#[test]
fn another_nic_and_another_address_are_followed() {
    on_a_node(|directory, _outside| async move {
        let mut node = Node::start(&directory, &["--routing", "auto"]).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        serve(&b, b_address, 8080);
        sh("ip link add nic1 type veth peer name wire1");
        sh("ip addr add 192.168.9.1/24 dev nic1");
        sh("ip link set wire1 up");
        sh("ip link set nic1 up");
        until("the other device", async || {
            let status = status(&node).await;
            let other = status.other_devices.iter().find(|device| device.name == "nic1");
            other.is_some_and(|device| device.address == "192.168.9.1" && device.reason.contains("InternalIPs"))
        })
        .await;
        assert_eq!(status(&node).await.device.expect("a device").reason, "has the node's address 172.31.0.11");
        sh("ip addr del 172.31.0.11/24 dev nic0");
        sh("ip addr add 172.31.0.11/24 dev nic1");
        until("the end of the agent", async || node.agent.is_finished()).await;
        reaches(&a, b_address, 8080, a_address);
        node.restart().await;
        assert_eq!(status(&node).await.device.expect("a device").name, "nic1");
        reaches(&a, b_address, 8080, a_address);
        sh("ip addr add 172.31.0.44/24 dev nic1");
        let addresses = json!([{ "type": "InternalIP", "address": "172.31.0.44" }]);
        let (spec, status_now) = (json!({ "podCIDR": "10.244.0.0/24" }), json!({ "addresses": addresses }));
        node.api.put(NODES, json!({ "metadata": { "name": "n1" }, "spec": spec, "status": status_now }));
        until("the end of the agent", async || node.agent.is_finished()).await;
        node.restart().await;
        assert_eq!(status(&node).await.device.expect("a device").address, "172.31.0.44");
        reaches(&a, b_address, 8080, a_address);
    });
}

async fn told(node: &Node, name: &str, part: &str) -> bool {
    status(node).await.issues.iter().any(|issue| issue.name == name && issue.message.contains(part))
}

/// What the pod's kernel does with a large datagram to that address: how many bytes it now knows to fit.
fn learned(pod: &Namespace, to: &'static str) -> Option<String> {
    pod.within(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
        let _ = socket.send_to(&[0; 1_400], (to, 9));
        let output = std::process::Command::new("ip").args(["route", "get", to]).output().expect("iproute2");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split(" mtu ").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    })
}

#[test]
fn paths_to_other_nodes_are_followed() {
    on_a_node(|directory, outside| async move {
        let mut node = Node::start(&directory, &[]).await;
        let (a, _) = node.pod("a").await;
        // Another node's route is smaller: every pod of this node keeps to it, until the route is as large as others.
        other_node(&node.api, "n3", "172.31.0.3", "10.244.3.0/24");
        until("the node", async || node.table("NODES").await.contains("172.31.0.3 generation 1 mtu 1450 splits")).await;
        for (route, pods) in [("mtu 1400", 1_350), ("", 1_450)] {
            sh(&format!("ip route replace 172.31.0.3 dev nic0 {route}"));
            until("the MTU", async || status(&node).await.pod_mtu == pods).await;
            assert_eq!((mtu_of("weft_host"), mtu_in(&a)), (pods.to_string(), pods.to_string()));
        }
        // It answers nothing, so nothing is said of it.
        assert!(!told(&node, "n3", "MTU").await);
        // Another one's device is smaller, and says nothing of it (a veth leaves room for a VLAN tag's four bytes): the
        // agent finds out, says so, and what is too large for it is refused.
        outside.run("ip link set wire0 mtu 1400");
        other_node(&node.api, "n2", "172.31.0.2", "10.244.2.0/24");
        until("the finding", async || told(&node, "n2", "Packets of 1404 bytes get through").await).await;
        assert!(told(&node, "n2", "or start the agent of this node with --mtu 1354").await);
        until("the row", async || node.table("NODES").await.contains("172.31.0.2 generation 1 mtu 1354 adjacent\n"))
            .await;
        until("the pod to know", async || learned(&a, "10.244.2.9").as_deref() == Some("1354")).await;
        assert_eq!(learned(&a, "10.244.3.9"), None, "what goes elsewhere may be as large as ever");
        // The remedy: pods of before follow what another agent is told.
        node.extra = &["--mtu", "1354"];
        node.restart().await;
        until("the MTU", async || mtu_in(&a) == "1354").await;
        until("the device", async || mtu_of("weft_vxlan") == "1354").await;
        until("the row", async || node.table("NODES").await.contains("172.31.0.2 generation 1 mtu 1354 adjacent\n"))
            .await;
        assert!(!told(&node, "n2", "Packets of").await, "what is remedied is not told");
    });
}
