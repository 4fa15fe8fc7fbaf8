//! Real sockets through the real programs: two nodes with pods, the overlay between them, and a machine outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "shared files hold more than this test uses")]

#[path = "../../datapath/tests/scenarios/bench.rs"]
mod bench;
#[path = "netns/exchange.rs"]
mod exchange;
#[path = "netns/lab.rs"]
mod lab;
#[path = "netns/native.rs"]
mod native;
#[path = "prog_run/rows.rs"]
mod rows;
#[path = "netns/sizes.rs"]
mod sizes;
#[path = "../../datapath/tests/scenarios/world.rs"]
mod world;

use exchange::{tcp, udp};
use lab::{Attach, Lab, Setup};

/// Client's namespace, server's namespace and address, what the client connects to, whom the server sees.
const WAYS: &[(&str, &str, &str, &str, &str)] = &[
    // Pods.
    ("pod-a", "pod-b", "10.244.1.3:8080", "10.244.1.3:8080", "10.244.1.2"),
    ("pod-a", "pod-c", "10.244.2.2:8080", "10.244.2.2:8080", "10.244.1.2"),
    ("pod-c", "pod-b", "10.244.1.3:8080", "10.244.1.3:8080", "10.244.2.2"),
    // Pods and hosts.
    ("pod-a", "node-1", "172.31.0.11:7000", "172.31.0.11:7000", "10.244.1.2"),
    ("pod-a", "node-2", "172.31.0.12:7000", "172.31.0.12:7000", "10.244.1.2"),
    ("node-1", "pod-a", "10.244.1.2:7000", "10.244.1.2:7000", "172.31.0.11"),
    ("node-1", "pod-c", "10.244.2.2:7000", "10.244.2.2:7000", "172.31.0.11"),
    // Cluster addresses from a pod: backend here, on the other node, the pod itself, this host, the other host.
    ("pod-a", "pod-b", "10.244.1.3:8080", "10.96.0.10:80", "10.244.1.2"),
    ("pod-a", "pod-c", "10.244.2.2:8080", "10.96.0.11:80", "10.244.1.2"),
    ("pod-a", "pod-a", "10.244.1.2:8080", "10.96.0.12:80", "169.254.42.1"),
    ("pod-a", "node-1", "172.31.0.11:6443", "10.96.0.1:443", "10.244.1.2"),
    ("pod-a", "node-2", "172.31.0.12:6443", "10.96.0.2:443", "10.244.1.2"),
    // And from the host.
    ("node-1", "pod-b", "10.244.1.3:8080", "10.96.0.10:80", "172.31.0.11"),
    ("node-1", "pod-c", "10.244.2.2:8080", "10.96.0.11:80", "172.31.0.11"),
    ("node-1", "node-1", "172.31.0.11:6443", "10.96.0.1:443", "169.254.42.1"),
    ("node-1", "node-2", "172.31.0.12:6443", "10.96.0.2:443", "172.31.0.11"),
    ("node-2", "node-1", "172.31.0.11:6443", "10.96.0.1:443", "172.31.0.12"),
    // Node ports from outside, from a pod, from another node.
    ("outside", "pod-b", "10.244.1.3:8080", "172.31.0.11:30080", "172.31.0.2"),
    ("outside", "pod-b", "10.244.1.3:8080", "172.31.0.12:30080", "172.31.0.2"),
    ("outside", "pod-c", "10.244.2.2:8080", "172.31.0.11:30081", "172.31.0.2"),
    ("outside", "node-1", "172.31.0.11:6443", "172.31.0.11:30082", "172.31.0.2"),
    ("outside", "node-2", "172.31.0.12:6443", "172.31.0.11:30083", "172.31.0.2"),
    ("pod-a", "pod-c", "10.244.2.2:8080", "172.31.0.12:30081", "10.244.1.2"),
    ("pod-a", "pod-b", "10.244.1.3:8080", "172.31.0.11:30080", "10.244.1.2"),
    ("node-2", "pod-b", "10.244.1.3:8080", "172.31.0.11:30080", "172.31.0.12"),
    ("node-2", "pod-c", "10.244.2.2:8080", "172.31.0.11:30081", "172.31.0.12"),
    // Host ports: from outside, from the other node and its pods, from a pod of the same node and the pod itself.
    ("outside", "pod-b", "10.244.1.3:8080", "172.31.0.11:8081", "172.31.0.2"),
    ("outside", "pod-c", "10.244.2.2:8080", "172.31.0.12:8082", "172.31.0.2"),
    ("node-2", "pod-b", "10.244.1.3:8080", "172.31.0.11:8081", "172.31.0.12"),
    ("pod-c", "pod-b", "10.244.1.3:8080", "172.31.0.11:8081", "10.244.2.2"),
    ("pod-a", "pod-c", "10.244.2.2:8080", "172.31.0.12:8082", "10.244.1.2"),
    ("pod-a", "pod-b", "10.244.1.3:8080", "172.31.0.11:8081", "10.244.1.2"),
    ("pod-b", "pod-b", "10.244.1.3:8080", "172.31.0.11:8081", "169.254.42.1"),
    // Out of the cluster: masqueraded.
    ("pod-a", "outside", "172.31.0.2:80", "172.31.0.2:80", "172.31.0.11"),
    ("pod-c", "outside", "172.31.0.2:80", "172.31.0.2:80", "172.31.0.12"),
    // Hosts among themselves and with the outside are none of our business.
    ("node-1", "node-2", "172.31.0.12:22", "172.31.0.12:22", "172.31.0.11"),
    ("outside", "node-1", "172.31.0.11:22", "172.31.0.11:22", "172.31.0.2"),
    ("node-1", "outside", "172.31.0.2:22", "172.31.0.2:22", "172.31.0.11"),
];

/// An address and port as this thread's family has it.
fn endpoint(text: &str) -> &'static str {
    let at: std::net::SocketAddr = text.parse().unwrap();
    let ip = lab::place(&at.ip().to_string()).parse().unwrap();
    Box::leak(std::net::SocketAddr::new(ip, at.port()).to_string().into_boxed_str())
}

/// A node's own datagrams to another node's port are as large as its NIC lets them be; nobody may tell it of another node's
/// address (ADR 0021), and an outer IPv6 header is not split.
fn untold((client, server, _, to, _): &(&str, &str, &str, &str, &str)) -> bool {
    bench::v6() && (*client, *server) == ("node-2", "pod-c") && to.ends_with(":30081")
}

#[track_caller]
fn every_way(setup: Setup) {
    let lab = Lab::start(setup);
    let mut failed = Vec::new();
    for way @ (client, server, at, to, seen) in WAYS {
        let (at, to, seen) = (endpoint(at), endpoint(to), lab::place(seen));
        for (name, exchange) in [("tcp", tcp as exchange::Exchange), ("udp", udp)] {
            if name == "udp" && untold(way) {
                continue;
            }
            match exchange(client, server, at, to) {
                Ok(peer) if peer.to_string() == seen => {}
                other => failed.push(format!("{name} {way:?}: {other:?}")),
            }
        }
    }
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), lab.drops());
}

#[test]
fn every_way_with_tcx() {
    every_way(Setup::plain(Attach::Tcx));
}

/// Pods, services and the underlay in IPv6 alone, attached as on every kernel that we run on.
#[test]
fn every_way_in_ipv6() {
    bench::speak(true);
    every_way(Setup::plain(Attach::Clsact));
}

#[test]
fn every_way_with_clsact() {
    every_way(Setup::plain(Attach::Clsact));
}

/// With NICs that do nothing for it: the kernel cuts and sums up what the programs sent, and what they tell the machine outside
/// of packets whose checksum that has left to its own NIC.
#[test]
fn every_way_with_headers_by_the_program() {
    every_way(Setup { written: [true; 2], offloads: false, ..Setup::plain(Attach::Tcx) });
}

/// One node's overlay by the program, the other's by the device.
#[test]
fn every_way_with_both_back_ends() {
    every_way(Setup { written: [true, false], ..Setup::plain(Attach::Tcx) });
}

/// The same over an underlay of IPv6, whose outer headers have checksums that the device looks at without offloads.
#[test]
fn every_way_with_both_back_ends_in_ipv6() {
    bench::speak(true);
    every_way(Setup { written: [true, false], offloads: false, ..Setup::plain(Attach::Tcx) });
}

/// As every node of a cluster of IPv6 alone may be.
#[test]
fn every_way_with_headers_by_the_program_in_ipv6() {
    bench::speak(true);
    every_way(Setup { written: [true; 2], ..Setup::plain(Attach::Clsact) });
}

/// What two pods say to each other does not touch the overlay device.
#[test]
fn headers_by_the_program_spare_the_device() {
    let lab = Lab::start(Setup { written: [true; 2], ..Setup::plain(Attach::Tcx) });
    for exchange in [tcp as exchange::Exchange, udp] {
        exchange("pod-a", "pod-c", "10.244.2.2:8080", "10.244.2.2:8080").unwrap();
    }
    assert_eq!(lab.by_device(), 0, "{}", lab.drops());
}
