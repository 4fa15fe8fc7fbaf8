//! What changes on the node while the agent runs: its MTU and its addresses.
use agent_api::{
    AgentClient,
    v1::{StatusReply, StatusRequest},
};

use crate::{Namespace, Node, SECOND, namespaces::sh, on_a_node, reaches, serve};

async fn status(node: &Node) -> StatusReply {
    AgentClient::new(node.channel().await).status(StatusRequest {}).await.expect("served").into_inner()
}

/// Waits until a question has the answer that is wanted.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + 20 * SECOND;
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
