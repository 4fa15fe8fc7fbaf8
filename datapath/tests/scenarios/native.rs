//! Scenarios of nodes that reach each other without an outer header.
use super::{HOST, isolated, node2};
use crate::{
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test, addr, v6},
    world::{A, B, POD_A, POD_B, POD_MAC, pod, prefix, rule},
};
use abi::{
    DropReason,
    config::{FEATURE_NATIVE, VNI_POD, VNI_SERVICE},
    pod::{ISOLATED_EGRESS, ISOLATED_INGRESS, READY},
    policy::{EGRESS, INGRESS},
    route::{NATIVE, Node as NodeRow, Route, SEGMENT, TAKES_NATIVE},
};
use datapath::{parse::TCP, sim::Node};

fn flag(by_family: [u32; 2]) -> u32 {
    by_family[usize::from(v6())]
}

/// Node 2's row, with these flags besides; it is its own next hop.
fn peer(node: &mut Node, flags: &[[u32; 2]]) {
    let flags = flags.iter().fold(0, |all, by_family| all | flag(*by_family));
    let next = [addr("172.31.0.12"); 2];
    node.nodes.insert(2, NodeRow { tunnel: addr("172.31.0.12"), next, generation: 1, flags, ..NodeRow::default() });
}

/// A node that sends natively to node 2, and expects the same.
pub(super) fn native<T: Bench>() -> Test<T> {
    let mut t = Test::<T>::new();
    t.change(|node| {
        node.settings.features |= FEATURE_NATIVE;
        node.neighbours.insert(addr("172.31.0.12"), POD_MAC); // The sender of what comes by the NIC here.
        peer(node, &[NATIVE, TAKES_NATIVE, SEGMENT]);
    });
    t
}

pub(super) fn bare() -> Seen {
    Seen::Native(addr("172.31.0.12"))
}

/// Both ways, and as a router does: with the time to live going down and no address changing.
pub(crate) fn native_pods<T: Bench>() {
    let mut t = native::<T>();
    let (there, back) = ("10.244.1.2:1 > 10.244.2.2:80", "10.244.2.2:80 > 10.244.1.2:1");
    t.connect((From::Pod(A), there, bare(), there), (From::Nic, back, Seen::Pod(A), back));
    let (there, back) = ("10.244.2.2:1 > 10.244.1.3:80", "10.244.1.3:80 > 10.244.2.2:1");
    t.connect((From::Nic, there, Seen::Pod(B), there), (From::Pod(B), back, bare(), back));
    assert_eq!(
        t.ping(From::Pod(A), "10.244.1.2:7 > 10.244.2.2:7").gives(bare(), "10.244.1.2:7 > 10.244.2.2:7").ttl(),
        63
    );
    t.pong(From::Nic, "10.244.2.2:7 > 10.244.1.2:7").gives(Seen::Pod(A), "10.244.2.2:7 > 10.244.1.2:7");
    // A pod that is not there, and one of a third node: nothing goes round.
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.1.99:9").drops(DropReason::UnknownPod);
    t.change(|node| {
        node.route(prefix("10.244.3.0/24"), Route { node: 3, flags: 0 });
        node.nodes.insert(3, NodeRow { tunnel: addr("172.31.0.13"), generation: 1, ..NodeRow::default() });
    });
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.3.3:9").drops(DropReason::UnknownPod);
    t.udp(From::Nic, "10.244.2.2:1 > 172.31.0.2:9").drops(DropReason::NoRoute);
}

pub(crate) fn native_hosts<T: Bench>() {
    let mut t = native::<T>();
    let check = |t: &mut Test<T>, ways: [(From, &str, Seen); 2]| {
        let [(from, there, seen), (back_from, back, back_seen)] = ways;
        t.connect((from, there, seen, there), (back_from, back, back_seen, back));
    };
    // A pod and the other node, either asking; and a pod there and this node.
    let (there, back) = ("10.244.1.2:1 > 172.31.0.12:22", "172.31.0.12:22 > 10.244.1.2:1");
    check(&mut t, [(From::Pod(A), there, bare()), (From::Nic, back, Seen::Pod(A))]);
    let (there, back) = ("172.31.0.12:1 > 10.244.1.2:80", "10.244.1.2:80 > 172.31.0.12:1");
    check(&mut t, [(From::Nic, there, Seen::Pod(A)), (From::Pod(A), back, bare())]);
    let (there, back) = ("172.31.0.11:1 > 10.244.2.2:80", "10.244.2.2:80 > 172.31.0.11:1");
    check(&mut t, [(HOST, there, bare()), (From::Nic, back, Seen::Host)]);
    let (there, back) = ("10.244.2.2:1 > 172.31.0.11:22", "172.31.0.11:22 > 10.244.2.2:1");
    check(&mut t, [(From::Nic, there, Seen::Host), (HOST, back, bare())]);
    // Host to host is none of our business, and node ports are as they were.
    t.tcp(From::Nic, "172.31.0.12:1 > 172.31.0.11:22", SYN).gives(Seen::Pass, "172.31.0.12:1 > 172.31.0.11:22");
    t.tcp(From::Nic, "172.31.0.12:2 > 172.31.0.11:30080", SYN).gives(Seen::Pod(B), "172.31.0.12:2 > 10.244.1.3:8080");
}

pub(crate) fn native_services<T: Bench>() {
    let mut t = native::<T>();
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.11:80", bare(), "10.244.1.2:1 > 10.244.2.2:8080"),
        (From::Nic, "10.244.2.2:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.11:80 > 10.244.1.2:1"),
    );
    t.connect(
        (HOST, "172.31.0.11:1 > 10.96.0.11:80", bare(), "172.31.0.11:1 > 10.244.2.2:8080"),
        (From::Nic, "10.244.2.2:8080 > 172.31.0.11:1", Seen::Host, "10.96.0.11:80 > 172.31.0.11:1"),
    );
    // A client outside keeps its address by the overlay; without it the answer would come by the NIC, from nobody's flow.
    t.connect(
        (From::Nic, "8.8.8.8:1 > 172.31.0.11:30081", node2(VNI_SERVICE), "8.8.8.8:1 > 10.244.2.2:8080"),
        (From::Service("172.31.0.12"), "10.244.2.2:8080 > 8.8.8.8:1", Seen::Nic(20), "172.31.0.11:30081 > 8.8.8.8:1"),
    );
    t.tcp(From::Nic, "10.244.2.2:8080 > 8.8.8.8:1", ACK).drops(DropReason::NoRoute);
    // To another node's pods a service's address is no service here: they translate it themselves.
    t.tcp(From::Nic, "10.244.2.2:1 > 10.96.0.10:80", SYN).drops(DropReason::UnknownService);
}

pub(crate) fn native_forgeries<T: Bench>() {
    let mut t = native::<T>();
    let outside = DropReason::OwnAddressFromOutside;
    for source in ["10.244.1.2", "10.244.1.9", "10.244.9.9", "10.96.0.10", "172.31.0.11"] {
        t.udp(From::Nic, &format!("{source}:1 > 10.244.1.3:9")).drops(outside);
    }
    // A stranger on the segment says that it is a pod of node 2, or node 2.
    t.change(|node| {
        node.neighbours.insert(addr("172.31.0.12"), [2, 0, 0, 0, 7, 7]);
    });
    let stranger = DropReason::NativeSource;
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.1.3:9").drops(stranger);
    t.udp(From::Nic, "172.31.0.12:1 > 10.244.1.3:9").drops(stranger);
    t.udp(From::Nic, "10.244.2.2:1 > 172.31.0.11:22").drops(stranger);
    // Beyond a router every packet has the router's address.
    t.change(|node| peer(node, &[NATIVE, TAKES_NATIVE]));
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.1.3:9").gives(Seen::Pod(B), "10.244.2.2:1 > 10.244.1.3:9");
    // Of a node that is not expected to send so nothing is taken, not for a known flow either.
    t.change(|node| peer(node, &[SEGMENT]));
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.1.3:9").drops(outside);
    t.udp(From::Nic, "10.244.2.2:2 > 10.244.1.3:9").drops(outside);
    // Nor a row of the other family's: each has its own.
    let other = |flags: [u32; 2]| [flags[1], flags[0]];
    t.change(|node| peer(node, &[other(NATIVE), other(TAKES_NATIVE)]));
    t.udp(From::Nic, "10.244.2.2:1 > 10.244.1.3:9").drops(outside);
    t.udp(From::Pod(A), "10.244.1.2:1 > 10.244.2.2:9").gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:9");
}

/// Nodes change over one by one while connections go on: whoever sends either way is taken, and nothing is judged anew.
pub(crate) fn native_changes_over<T: Bench>() {
    let mut t = native::<T>();
    t.change(|node| peer(node, &[]));
    let (there, back) = ("10.244.1.2:1 > 10.244.2.2:80", "10.244.2.2:80 > 10.244.1.2:1");
    let overlay = From::Overlay("172.31.0.12");
    t.connect((From::Pod(A), there, node2(VNI_POD), there), (overlay, back, Seen::Pod(A), back));
    let (other, answer) = ("10.244.2.2:5 > 10.244.1.3:80", "10.244.1.3:80 > 10.244.2.2:5");
    t.connect((overlay, other, Seen::Pod(B), other), (From::Pod(B), answer, node2(VNI_POD), answer));
    t.tcp(From::Nic, back, ACK).drops(DropReason::OwnAddressFromOutside);
    // Step 1: this node takes what it does not send yet.
    t.change(|node| peer(node, &[TAKES_NATIVE, SEGMENT]));
    for from in [overlay, From::Nic, overlay] {
        t.tcp(from, back, ACK).gives(Seen::Pod(A), back);
        t.tcp(From::Pod(A), there, ACK).gives(node2(VNI_POD), there);
        t.tcp(from, other, ACK).gives(Seen::Pod(B), other);
    }
    // Step 2: it sends so, too. Old flows and new ones.
    t.change(|node| peer(node, &[NATIVE, TAKES_NATIVE, SEGMENT]));
    for from in [overlay, From::Nic] {
        t.tcp(From::Pod(A), there, ACK).gives(bare(), there);
        t.tcp(from, back, ACK).gives(Seen::Pod(A), back);
        t.tcp(From::Pod(B), answer, ACK).gives(bare(), answer);
    }
    t.tcp(From::Pod(A), "10.244.1.2:2 > 10.244.2.2:80", SYN).gives(bare(), "10.244.1.2:2 > 10.244.2.2:80");
    t.tcp(overlay, "10.244.2.2:80 > 10.244.1.2:2", SYN_ACK).gives(Seen::Pod(A), "10.244.2.2:80 > 10.244.1.2:2");
    // And back.
    t.change(|node| peer(node, &[TAKES_NATIVE, SEGMENT]));
    t.tcp(From::Pod(A), there, ACK).gives(node2(VNI_POD), there);
    t.tcp(From::Nic, back, ACK).gives(Seen::Pod(A), back);
}

pub(crate) fn native_policy<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS, |node| {
        rule(node, INGRESS, 5, TCP, 8080, super::super::world::ALLOWED);
        node.peers.insert(addr("10.244.2.2"), 5);
        node.settings.features |= FEATURE_NATIVE;
        peer(node, &[NATIVE, TAKES_NATIVE]);
    });
    let (there, back) = ("10.244.2.2:1 > 10.244.1.3:8080", "10.244.1.3:8080 > 10.244.2.2:1");
    t.connect((From::Nic, there, Seen::Pod(B), there), (From::Pod(B), back, bare(), back));
    let denied = DropReason::PolicyDeniedIngress;
    t.tcp(From::Nic, "10.244.2.2:1 > 10.244.1.3:8081", SYN).drops(denied);
    t.tcp(From::Nic, "10.244.2.3:1 > 10.244.1.3:8080", SYN).drops(denied);
    t.tcp(From::Nic, "172.31.0.12:1 > 10.244.1.3:8080", SYN).drops(denied);
    t.change(|node| {
        super::super::world::isolate(node, POD_A, ISOLATED_EGRESS);
        rule(node, EGRESS, 5, TCP, 80, super::super::world::ALLOWED);
    });
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.2.2:80", SYN).gives(bare(), "10.244.1.2:1 > 10.244.2.2:80");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.2.3:80", SYN).drops(DropReason::PolicyDeniedEgress);
}

/// A pod whose address was another's: a bare packet of the old flow meets the new one's rules, not the old row.
pub(crate) fn native_generations<T: Bench>() {
    let mut t = native::<T>();
    let there = "10.244.2.2:1 > 10.244.1.3:80";
    t.tcp(From::Nic, there, SYN).gives(Seen::Pod(B), there);
    t.change(|node| {
        pod(node, POD_B, "10.244.1.3", B, READY);
        node.pod.get_mut(&POD_B).unwrap().generation = 2;
    });
    t.tcp(From::Nic, there, ACK).gives(Seen::Pod(B), there);
    // A node that is gone takes its flows with it.
    t.change(|node| {
        node.nodes.insert(2, NodeRow { generation: 2, ..NodeRow::default() });
        node.routes = Default::default();
    });
    t.tcp(From::Nic, there, ACK).gives(Seen::Pass, there);
}
