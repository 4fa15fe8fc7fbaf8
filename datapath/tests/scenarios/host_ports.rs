//! Scenarios of host ports: a pod's port at an address of its node.
use crate::{
    bench::{Bench, From, SYN, Seen, Test},
    world::{A, B, NIC, POD_B, host_port},
};
use abi::{DropReason, config::VNI_POD};
use datapath::parse::{TCP, UDP};

use super::node2;

const BACKEND: (&str, u32, u32) = ("10.244.1.3:8080", POD_B, 1);

pub(crate) fn host_port_from_everywhere<T: Bench>() {
    let mut t = Test::<T>::new();
    t.change(|node| host_port(node, 30, "172.31.0.11:8081", TCP, BACKEND));
    // From outside, and from another node's host by the underlay.
    for client in ["172.31.0.2", "172.31.0.12"] {
        t.connect(
            (
                From::Nic,
                &format!("{client}:1 > 172.31.0.11:8081"),
                Seen::Pod(B),
                &format!("{client}:1 > 10.244.1.3:8080"),
            ),
            (
                From::Pod(B),
                &format!("10.244.1.3:8080 > {client}:1"),
                Seen::Nic(NIC),
                &format!("172.31.0.11:8081 > {client}:1"),
            ),
        );
    }
    // From another node's pod, by the overlay.
    t.connect(
        (
            From::Overlay("172.31.0.12"),
            "10.244.2.2:1 > 172.31.0.11:8081",
            Seen::Pod(B),
            "10.244.2.2:1 > 10.244.1.3:8080",
        ),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.2.2:1", node2(VNI_POD), "172.31.0.11:8081 > 10.244.2.2:1"),
    );
    // From a pod of this node, and from the pod itself.
    t.connect(
        (From::Pod(A), "10.244.1.2:1 > 172.31.0.11:8081", Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "172.31.0.11:8081 > 10.244.1.2:1"),
    );
    t.connect(
        (From::Pod(B), "10.244.1.3:1 > 172.31.0.11:8081", Seen::Pod(B), "169.254.42.1:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 169.254.42.1:1", Seen::Pod(B), "172.31.0.11:8081 > 10.244.1.3:1"),
    );
    // Another port, protocol or address of a node is not it.
    t.tcp(From::Nic, "172.31.0.2:1 > 172.31.0.11:8082", SYN).gives(Seen::Pass, "172.31.0.2:1 > 172.31.0.11:8082");
    t.udp(From::Nic, "172.31.0.2:1 > 172.31.0.11:8081").gives(Seen::Pass, "172.31.0.2:1 > 172.31.0.11:8081");
}

pub(crate) fn masquerade_leaves_promised_ports<T: Bench>() {
    let mut t = Test::<T>::new();
    // Only one port to choose from, and a pod has it as its host port: for TCP.
    t.change(|node| {
        (node.settings.masquerade_first, node.settings.masquerade_last) = (61_000, 61_000);
        host_port(node, 30, "172.31.0.11:61000", TCP, BACKEND);
    });
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
    t.udp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80").gives(Seen::Nic(NIC), "172.31.0.11:61000 > 172.31.0.2:80");
    t.change(|node| host_port(node, 31, "172.31.0.11:61000", UDP, BACKEND));
    t.udp(From::Pod(A), "10.244.1.2:2 > 172.31.0.2:80").drops(DropReason::NoPort);
    // A range that meets that of node ports: what is none today may be one soon.
    t.change(|node| (node.settings.masquerade_first, node.settings.masquerade_last) = (30_079, 30_079));
    t.tcp(From::Pod(A), "10.244.1.2:3 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
}
