//! The scenarios: ways through the node, there and back.
use super::{
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test, addr},
    world::{A, B, NIC, POD_UNREADY, UNREADY, pod},
};
use abi::{
    DropReason,
    config::{VNI_POD, VNI_SERVICE},
    pod::READY,
};
use datapath::{
    parse::{ETHERNET, UDP},
    sim::frame::layout,
};

#[path = "families.rs"]
mod families;
#[path = "fragments.rs"]
mod fragments;
#[path = "host_ports.rs"]
mod host_ports;
#[path = "lost.rs"]
mod lost;
#[path = "native.rs"]
mod native;
#[path = "policies.rs"]
mod policies;
#[path = "same_ports.rs"]
mod same_ports;
#[path = "sizes.rs"]
mod sizes;
#[path = "states.rs"]
mod states;
pub(crate) use families::*;
pub(crate) use fragments::*;
pub(crate) use host_ports::*;
pub(crate) use lost::*;
pub(crate) use native::*;
pub(crate) use policies::*;
pub(crate) use same_ports::*;
pub(crate) use sizes::*;
pub(crate) use states::*;

pub(super) const HOST: From = From::Host;

pub(crate) fn node2(vni: u32) -> Seen {
    Seen::Encap(addr("172.31.0.12"), vni)
}

pub(crate) fn pod_to_pod<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Pod(A), "10.244.1.2:1000 > 10.244.1.3:8080", Seen::Pod(B), "10.244.1.2:1000 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1000", Seen::Pod(A), "10.244.1.3:8080 > 10.244.1.2:1000"),
    );
    t.tcp(From::Pod(B), "10.244.1.3:1000 > 10.244.1.2:80", SYN).gives(Seen::Pod(A), "10.244.1.3:1000 > 10.244.1.2:80");
}

pub(crate) fn pod_to_other_node<T: Bench>() {
    let mut t = Test::<T>::new();
    let node = From::Overlay("172.31.0.12");
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.244.2.2:80", node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:80"),
        (node, "10.244.2.2:80 > 10.244.1.2:1", Seen::Pod(A), "10.244.2.2:80 > 10.244.1.2:1"),
    );
    t.connect(
        (node, "10.244.2.2:1 > 10.244.1.3:80", Seen::Pod(B), "10.244.2.2:1 > 10.244.1.3:80"),
        (From::Pod(B), "10.244.1.3:80 > 10.244.2.2:1", node2(VNI_POD), "10.244.1.3:80 > 10.244.2.2:1"),
    );
}

pub(crate) fn pod_to_itself<T: Bench>() {
    let mut t = Test::<T>::new();
    // By its own address a pod uses its loopback; if a packet does come out, it goes back in by the hairpin address.
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.2:80", SYN).gives(Seen::Pod(A), "169.254.42.1:1 > 10.244.1.2:80");
}

pub(crate) fn pod_to_hosts<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 172.31.0.11:22", Seen::Host, "10.244.1.2:1 > 172.31.0.11:22"),
        (HOST, "172.31.0.11:22 > 10.244.1.2:1", Seen::Pod(A), "172.31.0.11:22 > 10.244.1.2:1"),
    );
    let node = From::Overlay("172.31.0.12");
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 172.31.0.12:22", node2(VNI_POD), "10.244.1.2:1 > 172.31.0.12:22"),
        (node, "172.31.0.12:22 > 10.244.1.2:1", Seen::Pod(A), "172.31.0.12:22 > 10.244.1.2:1"),
    );
    // And a pod of the other node to this host.
    t.connect(
        (node, "10.244.2.2:1 > 172.31.0.11:22", Seen::Host, "10.244.2.2:1 > 172.31.0.11:22"),
        (HOST, "172.31.0.11:22 > 10.244.2.2:1", node2(VNI_POD), "172.31.0.11:22 > 10.244.2.2:1"),
    );
}

pub(crate) fn pod_to_outside<T: Bench>() {
    let mut t = Test::<T>::new();
    let port = t
        .tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN)
        .gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:80")
        .sport();
    assert!((61_000..=65_535).contains(&port), "{port}");
    let (there, back) = (format!("172.31.0.11:{port} > 172.31.0.2:80"), format!("172.31.0.2:80 > 172.31.0.11:{port}"));
    t.tcp(From::Nic, &back, SYN_ACK).gives(Seen::Pod(A), "172.31.0.2:80 > 10.244.1.2:1");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", ACK).gives(Seen::Nic(NIC), &there);
    t.tcp(From::Nic, &back, ACK).gives(Seen::Pod(A), "172.31.0.2:80 > 10.244.1.2:1");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", ACK).gives(Seen::Nic(NIC), &there);
    // A repeated SYN of another flow keeps its port, too.
    let first = t.tcp(From::Pod(A), "10.244.1.2:2 > 172.31.0.2:80", SYN).sport();
    assert_eq!(t.tcp(From::Pod(A), "10.244.1.2:2 > 172.31.0.2:80", SYN).sport(), first);
}

pub(crate) fn host_to_pods<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (HOST, "172.31.0.11:1 > 10.244.1.2:80", Seen::Pod(A), "172.31.0.11:1 > 10.244.1.2:80"),
        (From::Pod(A), "10.244.1.2:80 > 172.31.0.11:1", Seen::Host, "10.244.1.2:80 > 172.31.0.11:1"),
    );
    t.connect(
        (HOST, "172.31.0.11:1 > 10.244.2.2:80", node2(VNI_POD), "172.31.0.11:1 > 10.244.2.2:80"),
        (From::Overlay("172.31.0.12"), "10.244.2.2:80 > 172.31.0.11:1", Seen::Host, "10.244.2.2:80 > 172.31.0.11:1"),
    );
}

pub(crate) fn cluster_ip_from_a_pod<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.10:80", Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1"),
    );
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.11:80", node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080"),
        (From::Overlay("172.31.0.12"), "10.244.2.2:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.11:80 > 10.244.1.2:1"),
    );
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.1:443", Seen::Host, "10.244.1.2:1 > 172.31.0.11:6443"),
        (HOST, "172.31.0.11:6443 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.1:443 > 10.244.1.2:1"),
    );
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.2:443", node2(VNI_POD), "10.244.1.2:1 > 172.31.0.12:6443"),
        (From::Overlay("172.31.0.12"), "172.31.0.12:6443 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.2:443 > 10.244.1.2:1"),
    );
}

pub(crate) fn cluster_ip_from_the_host<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (HOST, "172.31.0.11:1 > 10.96.0.10:80", Seen::Pod(B), "172.31.0.11:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 172.31.0.11:1", Seen::Host, "10.96.0.10:80 > 172.31.0.11:1"),
    );
    t.connect(
        (HOST, "172.31.0.11:1 > 10.96.0.11:80", node2(VNI_POD), "172.31.0.11:1 > 10.244.2.2:8080"),
        (From::Overlay("172.31.0.12"), "10.244.2.2:8080 > 172.31.0.11:1", Seen::Host, "10.96.0.11:80 > 172.31.0.11:1"),
    );
    t.connect(
        (HOST, "172.31.0.11:1 > 10.96.0.2:443", Seen::Nic(NIC), "172.31.0.11:1 > 172.31.0.12:6443"),
        (From::Nic, "172.31.0.12:6443 > 172.31.0.11:1", Seen::Host, "10.96.0.2:443 > 172.31.0.11:1"),
    );
}

pub(crate) fn hairpins<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.96.0.12:80", Seen::Pod(A), "169.254.42.1:1 > 10.244.1.2:8080"),
        (From::Pod(A), "10.244.1.2:8080 > 169.254.42.1:1", Seen::Pod(A), "10.96.0.12:80 > 10.244.1.2:1"),
    );
    t.connect(
        (HOST, "172.31.0.11:1 > 10.96.0.1:443", Seen::Host, "169.254.42.1:1 > 172.31.0.11:6443"),
        (HOST, "172.31.0.11:6443 > 169.254.42.1:1", Seen::Host, "10.96.0.1:443 > 172.31.0.11:1"),
    );
}

pub(crate) fn udp_and_ping<T: Bench>() {
    let mut t = Test::<T>::new();
    t.udp(From::Pod(A), "10.244.1.2:9 > 10.96.0.14:53").gives(Seen::Pod(B), "10.244.1.2:9 > 10.244.1.3:5353");
    t.udp(From::Pod(B), "10.244.1.3:5353 > 10.244.1.2:9").gives(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
    t.udp(From::Pod(A), "10.244.1.2:9 > 10.244.2.2:53").gives(node2(VNI_POD), "10.244.1.2:9 > 10.244.2.2:53");
    t.ping(From::Pod(A), "10.244.1.2:77 > 10.244.1.3:77").gives(Seen::Pod(B), "10.244.1.2:77 > 10.244.1.3:77");
    t.pong(From::Pod(B), "10.244.1.3:77 > 10.244.1.2:77").gives(Seen::Pod(A), "10.244.1.3:77 > 10.244.1.2:77");
    let id = t
        .ping(From::Pod(A), "10.244.1.2:77 > 172.31.0.2:77")
        .gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:*")
        .sport();
    t.pong(From::Nic, &format!("172.31.0.2:{id} > 172.31.0.11:{id}"))
        .gives(Seen::Pod(A), "172.31.0.2:77 > 10.244.1.2:77");
}

pub(crate) fn unsummed_udp<T: Bench>() {
    let mut t = Test::<T>::new();
    let mut make = Test::<T>::make("10.244.1.2:9 > 10.96.0.14:53", UDP, 0);
    make.unsummed = true;
    let got = t.send(From::Pod(A), &make).gives(Seen::Pod(B), "10.244.1.2:9 > 10.244.1.3:5353");
    let field = layout(&got.bytes, ETHERNET).l4 + 6;
    assert_eq!(got.bytes[field..field + 2], [0, 0], "no checksum stays no checksum");
}

pub(crate) fn node_port_from_outside<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Nic, "172.31.0.2:1 > 172.31.0.11:30080", Seen::Pod(B), "172.31.0.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 172.31.0.2:1", Seen::Nic(NIC), "172.31.0.11:30080 > 172.31.0.2:1"),
    );
    t.connect(
        (From::Nic, "172.31.0.2:1 > 172.31.0.11:30081", node2(VNI_SERVICE), "172.31.0.2:1 > 10.244.2.2:8080"),
        (
            From::Service("172.31.0.12"),
            "10.244.2.2:8080 > 172.31.0.2:1",
            Seen::Nic(NIC),
            "172.31.0.11:30081 > 172.31.0.2:1",
        ),
    );
    // From another node's host: the same, by the underlay.
    t.connect(
        (From::Nic, "172.31.0.12:1 > 172.31.0.11:30080", Seen::Pod(B), "172.31.0.12:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 172.31.0.12:1", Seen::Nic(NIC), "172.31.0.11:30080 > 172.31.0.12:1"),
    );
}

pub(crate) fn node_port_from_a_pod<T: Bench>() {
    let mut t = Test::<T>::new();
    for (node, port) in [("172.31.0.11", 1), ("172.31.0.12", 2)] {
        t.connect(
            (
                From::Pod(A),
                &format!("10.244.1.2:{port} > {node}:30080"),
                Seen::Pod(B),
                &format!("10.244.1.2:{port} > 10.244.1.3:8080"),
            ),
            (
                From::Pod(B),
                &format!("10.244.1.3:8080 > 10.244.1.2:{port}"),
                Seen::Pod(A),
                &format!("{node}:30080 > 10.244.1.2:{port}"),
            ),
        );
    }
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.12:30082", SYN).gives(Seen::Host, "10.244.1.2:1 > 172.31.0.11:6443");
}

pub(crate) fn node_port_of_a_host_backend<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(
        (From::Nic, "172.31.0.2:1 > 172.31.0.11:30082", Seen::Pass, "172.31.0.2:1 > 172.31.0.11:6443"),
        (From::ToNic, "172.31.0.11:6443 > 172.31.0.2:1", Seen::Pass, "172.31.0.11:30082 > 172.31.0.2:1"),
    );
    t.connect(
        (From::Nic, "172.31.0.2:1 > 172.31.0.11:30083", node2(VNI_SERVICE), "172.31.0.2:1 > 172.31.0.12:6443"),
        (
            From::Service("172.31.0.12"),
            "172.31.0.12:6443 > 172.31.0.2:1",
            Seen::Nic(NIC),
            "172.31.0.11:30083 > 172.31.0.2:1",
        ),
    );
}

pub(crate) fn node_port_elsewhere<T: Bench>() {
    let mut t = Test::<T>::new();
    // Not an address of this node, no such node port, not in the range: the host's business.
    for text in
        ["172.31.0.2:1 > 172.31.0.99:30080", "172.31.0.2:1 > 172.31.0.11:31000", "172.31.0.2:1 > 172.31.0.11:8080"]
    {
        t.tcp(From::Nic, text, SYN).gives(Seen::Pass, text);
    }
}

/// The other side of a node port: the client's address is kept, and the answers go back to the node that sent it.
pub(crate) fn forwarded_by_another_node<T: Bench>() {
    let mut t = Test::<T>::new();
    let node = From::Service("172.31.0.12");
    t.connect(
        (node, "172.31.0.2:1 > 10.244.1.3:8080", Seen::Pod(B), "172.31.0.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 172.31.0.2:1", node2(VNI_SERVICE), "10.244.1.3:8080 > 172.31.0.2:1"),
    );
    t.connect(
        (node, "172.31.0.2:1 > 172.31.0.11:6443", Seen::Host, "172.31.0.2:1 > 172.31.0.11:6443"),
        (From::ToNic, "172.31.0.11:6443 > 172.31.0.2:1", node2(VNI_SERVICE), "172.31.0.11:6443 > 172.31.0.2:1"),
    );
}

pub(crate) fn overlay_trust<T: Bench>() {
    let mut t = Test::<T>::new();
    let bad = DropReason::OverlaySource;
    let other = From::Overlay("172.31.0.13");
    t.tcp(other, "10.244.2.2:1 > 10.244.1.2:80", SYN).drops(bad); // Not the owner's tunnel.
    t.tcp(From::Service("172.31.0.13"), "10.244.2.2:1 > 10.244.1.2:80", SYN).drops(bad); // No node at all.
    let node = From::Overlay("172.31.0.12");
    t.tcp(node, "10.244.1.3:1 > 10.244.1.2:80", SYN).drops(bad); // A pod of ours.
    t.tcp(node, "172.31.0.2:1 > 10.244.1.2:80", SYN).drops(bad); // Nobody's.
    // Also on an established flow.
    t.connect(
        (node, "10.244.2.2:1 > 10.244.1.3:80", Seen::Pod(B), "10.244.2.2:1 > 10.244.1.3:80"),
        (From::Pod(B), "10.244.1.3:80 > 10.244.2.2:1", node2(VNI_POD), "10.244.1.3:80 > 10.244.2.2:1"),
    );
    t.tcp(other, "10.244.2.2:1 > 10.244.1.3:80", ACK).drops(bad);
    t.tcp(node, "10.244.2.2:1 > 10.244.2.9:80", SYN).drops(DropReason::UnknownPod); // Nothing goes round twice.
}

pub(crate) fn spoofing<T: Bench>() {
    let mut t = Test::<T>::new();
    let bad = DropReason::SpoofedSource;
    t.tcp(From::Pod(A), "10.244.1.3:1 > 10.244.2.2:80", SYN).drops(bad);
    t.tcp(From::Pod(A), "10.244.2.2:1 > 10.244.1.3:80", SYN).drops(bad);
    t.tcp(From::Pod(A), "172.31.0.11:1 > 10.244.1.3:80", SYN).drops(bad);
    t.tcp(From::Pod(A), "8.8.8.8:1 > 10.244.1.3:80", SYN).drops(bad);
    t.tcp(HOST, "10.244.1.2:1 > 10.244.1.3:80", SYN).drops(bad);
    // Into somebody else's connection.
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 10.244.2.2:80", node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:80"),
        (From::Overlay("172.31.0.12"), "10.244.2.2:80 > 10.244.1.2:1", Seen::Pod(A), "10.244.2.2:80 > 10.244.1.2:1"),
    );
    t.tcp(From::Pod(B), "10.244.1.2:1 > 10.244.2.2:80", ACK).drops(bad);
}

pub(crate) fn not_ready<T: Bench>() {
    let mut t = Test::<T>::new();
    let bad = DropReason::PodNotReady;
    t.tcp(From::Pod(UNREADY), "10.244.1.4:1 > 10.244.1.3:80", SYN).drops(bad);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.4:80", SYN).drops(bad);
    t.change(|node| pod(node, POD_UNREADY, "10.244.1.4", UNREADY, READY));
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.4:80", SYN).gives(Seen::Pod(UNREADY), "10.244.1.2:1 > 10.244.1.4:80");
}

pub(crate) fn no_backend<T: Bench>() {
    let mut t = Test::<T>::new();
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.13:80", SYN).drops(DropReason::NoBackend);
    t.tcp(HOST, "172.31.0.11:1 > 10.96.0.13:80", SYN).drops(DropReason::NoBackend);
    t.tcp(From::Nic, "172.31.0.2:1 > 172.31.0.11:30084", SYN).drops(DropReason::NoBackend);
}

pub(crate) fn unknown_addresses<T: Bench>() {
    let mut t = Test::<T>::new();
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.7.7:80", SYN).drops(DropReason::UnknownService);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.10:81", SYN).drops(DropReason::UnknownService);
    t.ping(From::Pod(A), "10.244.1.2:1 > 10.96.0.10:1").drops(DropReason::UnknownService);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.9.9:80", SYN).drops(DropReason::UnknownPod);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.99:80", SYN).drops(DropReason::UnknownPod);
    t.tcp(HOST, "172.31.0.11:1 > 172.31.0.77:80", SYN).drops(DropReason::NoRoute);
}
