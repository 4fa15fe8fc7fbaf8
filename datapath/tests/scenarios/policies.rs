//! Scenarios of NetworkPolicy. Pods are isolated by set 7; class 5 is pod A, class 6 is 172.31.0.0/24.
use super::{HOST, node2};
use crate::{
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test, addr},
    world::{A, ALLOWED, B, NIC, POD_A, POD_B, isolate, prefix, rule},
};
use abi::{
    DropReason,
    config::VNI_POD,
    pod::{ISOLATED_EGRESS, ISOLATED_INGRESS},
    policy::{DENY, EGRESS, INGRESS},
};
use datapath::{
    parse::{TCP, UDP},
    sim::Node,
};

fn classes(node: &mut Node) {
    node.peers.insert(addr("10.244.1.2"), 5);
    node.peers.insert(addr("10.244.1.3"), 8);
    node.cidr(prefix("172.31.0.0/24"), 6);
}

pub(crate) fn isolated<T: Bench>(pod: u32, way: u8, rules: impl FnOnce(&mut Node)) -> Test<T> {
    let mut t = Test::<T>::new();
    t.change(|node| {
        classes(node);
        isolate(node, pod, way);
        rules(node);
    });
    t
}

const NO_INGRESS: DropReason = DropReason::PolicyDeniedIngress;
const NO_EGRESS: DropReason = DropReason::PolicyDeniedEgress;

pub(crate) fn ingress_policy<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS, |node| {
        rule(node, INGRESS, 5, TCP, 8080, ALLOWED);
        rule(node, INGRESS, 6, UDP, 0, ALLOWED);
    });
    let a_to_b = "10.244.1.2:1 > 10.244.1.3:8080";
    t.connect(
        (From::Pod(A), a_to_b, Seen::Pod(B), a_to_b),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.244.1.3:8080 > 10.244.1.2:1"),
    );
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:8081", SYN).drops(NO_INGRESS);
    t.udp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:8080").drops(NO_INGRESS);
    t.ping(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:1").drops(NO_INGRESS);
    let node = From::Overlay("172.31.0.12");
    t.tcp(node, "10.244.2.2:1 > 10.244.1.3:8080", SYN).drops(NO_INGRESS); // No class.
    t.udp(node, "172.31.0.12:1 > 10.244.1.3:9").gives(Seen::Pod(B), "172.31.0.12:1 > 10.244.1.3:9");
    t.tcp(node, "172.31.0.12:1 > 10.244.1.3:8080", SYN).drops(NO_INGRESS);
    // The client's own address counts, not the node that forwarded it.
    t.tcp(From::Nic, "8.8.8.8:1 > 172.31.0.11:30080", SYN).drops(NO_INGRESS);
    t.tcp(From::Service("172.31.0.12"), "8.8.8.8:1 > 10.244.1.3:8080", SYN).drops(NO_INGRESS);
    // What it sends itself is free, and so are the answers.
    t.connect(
        (From::Pod(B), "10.244.1.3:7 > 10.244.1.2:80", Seen::Pod(A), "10.244.1.3:7 > 10.244.1.2:80"),
        (From::Pod(A), "10.244.1.2:80 > 10.244.1.3:7", Seen::Pod(B), "10.244.1.2:80 > 10.244.1.3:7"),
    );
}

pub(crate) fn egress_policy<T: Bench>() {
    let mut t = isolated::<T>(POD_A, ISOLATED_EGRESS, |node| {
        rule(node, EGRESS, 8, TCP, 8080, ALLOWED);
        rule(node, EGRESS, 6, 0, 0, ALLOWED);
    });
    let a_to_b = "10.244.1.2:1 > 10.244.1.3:8080";
    t.tcp(From::Pod(A), a_to_b, SYN).gives(Seen::Pod(B), a_to_b);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80", SYN).drops(NO_EGRESS);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.2.2:8080", SYN).drops(NO_EGRESS);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 8.8.8.8:53", SYN).drops(NO_EGRESS);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN).gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:80");
    t.ping(From::Pod(A), "10.244.1.2:1 > 172.31.0.12:1").gives(node2(VNI_POD), "10.244.1.2:1 > 172.31.0.12:1");
    t.tcp(From::Pod(B), "10.244.1.3:1 > 10.244.1.2:80", SYN).gives(Seen::Pod(A), "10.244.1.3:1 > 10.244.1.2:80");
}

pub(crate) fn policy_sees_the_backend<T: Bench>() {
    let mut t = isolated::<T>(POD_A, ISOLATED_EGRESS, |node| rule(node, EGRESS, 8, TCP, 8080, ALLOWED));
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.10:80", SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.11:80", SYN).drops(NO_EGRESS);
    // A hairpin is the pod's own affair.
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.12:80", SYN).gives(Seen::Pod(A), "169.254.42.1:1 > 10.244.1.2:8080");
}

pub(crate) fn policy_precedence<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS, |node| {
        rule(node, INGRESS, 0, TCP, 80, ALLOWED);
        rule(node, INGRESS, 5, TCP, 80, (DENY, 50)); // Better than any peer's.
        rule(node, INGRESS, 0, TCP, 81, (DENY, 200));
        rule(node, INGRESS, 5, TCP, 81, ALLOWED);
        rule(node, INGRESS, 0, TCP, 82, (DENY, 100)); // A tie.
        rule(node, INGRESS, 5, TCP, 82, ALLOWED);
    });
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80", SYN).drops(NO_INGRESS);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:81", SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:81");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:82", SYN).drops(NO_INGRESS);
    let node = From::Overlay("172.31.0.12");
    t.tcp(node, "10.244.2.2:1 > 10.244.1.3:80", SYN).gives(Seen::Pod(B), "10.244.2.2:1 > 10.244.1.3:80");
    t.tcp(node, "10.244.2.2:1 > 10.244.1.3:81", SYN).drops(NO_INGRESS);
}

pub(crate) fn policy_by_prefix<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS, |node| {
        rule(node, INGRESS, 5, 0, 0, (DENY, 10));
        rule(node, INGRESS, 5, TCP, 0, ALLOWED);
        rule(node, INGRESS, 5, TCP, 80, (DENY, 10));
    });
    let ok = |port: u16| format!("10.244.1.2:1 > 10.244.1.3:{port}");
    t.tcp(From::Pod(A), &ok(81), SYN).gives(Seen::Pod(B), &ok(81));
    t.tcp(From::Pod(A), &ok(80), SYN).drops(NO_INGRESS);
    t.udp(From::Pod(A), &ok(81)).drops(NO_INGRESS);
}

pub(crate) fn probes_pass<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS | ISOLATED_EGRESS, |_| {});
    t.connect(
        (HOST, "172.31.0.11:1 > 10.244.1.3:80", Seen::Pod(B), "172.31.0.11:1 > 10.244.1.3:80"),
        (From::Pod(B), "10.244.1.3:80 > 172.31.0.11:1", Seen::Host, "10.244.1.3:80 > 172.31.0.11:1"),
    );
    t.tcp(From::Pod(B), "10.244.1.3:1 > 172.31.0.11:80", SYN).drops(NO_EGRESS);
    t.tcp(From::Overlay("172.31.0.12"), "172.31.0.12:1 > 10.244.1.3:80", SYN).drops(NO_INGRESS);
}

pub(crate) fn policy_change_stops_a_flow<T: Bench>() {
    let mut t = isolated::<T>(POD_B, ISOLATED_INGRESS, |node| rule(node, INGRESS, 5, 0, 0, ALLOWED));
    let service = "10.244.1.2:1 > 10.96.0.10:80";
    t.connect(
        (From::Pod(A), service, Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1"),
    );
    let plain = "10.244.1.2:2 > 10.244.1.3:80";
    t.tcp(From::Pod(A), plain, SYN).gives(Seen::Pod(B), plain);
    t.change(|node| {
        rule(node, INGRESS, 5, 0, 0, (DENY, 1));
        node.epoch += 1;
    });
    t.tcp(From::Pod(A), service, ACK).drops(NO_INGRESS);
    t.tcp(From::Pod(A), plain, ACK).drops(NO_INGRESS);
    // The answer, too: what is judged is the flow's own direction.
    t.tcp(From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", ACK).drops(NO_INGRESS);
    t.tcp(From::Pod(B), "10.244.1.3:80 > 10.244.1.2:2", SYN_ACK).drops(NO_INGRESS);
    t.change(|node| {
        rule(node, INGRESS, 5, 0, 0, ALLOWED);
        node.epoch += 1;
    });
    t.tcp(From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", ACK).gives(Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1");
    t.tcp(From::Pod(A), service, ACK).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
}

/// The answers of an allowed flow keep passing through rounds that change nothing for it, though no rule allows that
/// direction by itself.
pub(crate) fn answers_outlive_an_epoch<T: Bench>() {
    let mut t = isolated::<T>(POD_A, ISOLATED_INGRESS, |_| {});
    let (there, back) = ("10.244.1.2:1 > 10.96.0.10:80", "10.244.1.3:8080 > 10.244.1.2:1");
    t.connect(
        (From::Pod(A), there, Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080"),
        (From::Pod(B), back, Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1"),
    );
    for _ in 0..3 {
        t.change(|node| node.epoch += 1);
        t.tcp(From::Pod(B), back, ACK).gives(Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1");
        t.tcp(From::Pod(A), there, ACK).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
    }
}
