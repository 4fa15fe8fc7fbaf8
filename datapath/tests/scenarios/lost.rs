//! Scenarios of half-open flows that lose one half: their table evicts each half by itself.
use super::{HOST, node2};
use crate::{
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test},
    world::{A, B, NIC, service},
};
use abi::config::{VNI_POD, VNI_SERVICE};
use datapath::parse::{TCP, UDP};

type Way<'a> = (From, &'a str, Seen, &'a str);

/// A handshake that loses one half and then the other, each time before a packet that must find it.
#[track_caller]
fn check<T: Bench>(t: &mut Test<T>, there: Way<'_>, back: Way<'_>) {
    t.tcp(there.0, there.1, SYN).gives(there.2, there.3);
    t.lose(back.0, back.1, TCP);
    t.tcp(there.0, there.1, SYN).gives(there.2, there.3);
    t.tcp(back.0, back.1, SYN_ACK).gives(back.2, back.3);
    t.lose(there.0, there.1, TCP);
    t.tcp(back.0, back.1, SYN_ACK).gives(back.2, back.3);
    t.lose(back.0, back.1, TCP);
    t.tcp(there.0, there.1, ACK).gives(there.2, there.3);
    t.tcp(back.0, back.1, ACK).gives(back.2, back.3);
    t.tcp(there.0, there.1, ACK).gives(there.2, there.3);
}

pub(crate) fn lost_halves_are_made_again<T: Bench>() {
    let mut t = Test::<T>::new();
    let (node, forwarded) = (From::Overlay("172.31.0.12"), From::Service("172.31.0.12"));
    for (there, back) in [
        (
            (From::Pod(A), "10.244.1.2:1 > 10.96.0.10:80", Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080"),
            (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1"),
        ),
        (
            (From::Pod(A), "10.244.1.2:1 > 10.96.0.11:80", node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080"),
            (node, "10.244.2.2:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.11:80 > 10.244.1.2:1"),
        ),
        (
            (From::Pod(A), "10.244.1.2:1 > 10.96.0.1:443", Seen::Host, "10.244.1.2:1 > 172.31.0.11:6443"),
            (HOST, "172.31.0.11:6443 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.1:443 > 10.244.1.2:1"),
        ),
        (
            (From::Pod(A), "10.244.1.2:1 > 10.96.0.12:80", Seen::Pod(A), "169.254.42.1:1 > 10.244.1.2:8080"),
            (From::Pod(A), "10.244.1.2:8080 > 169.254.42.1:1", Seen::Pod(A), "10.96.0.12:80 > 10.244.1.2:1"),
        ),
        (
            (HOST, "172.31.0.11:1 > 10.96.0.10:80", Seen::Pod(B), "172.31.0.11:1 > 10.244.1.3:8080"),
            (From::Pod(B), "10.244.1.3:8080 > 172.31.0.11:1", Seen::Host, "10.96.0.10:80 > 172.31.0.11:1"),
        ),
        (
            (HOST, "172.31.0.11:1 > 10.96.0.2:443", Seen::Nic(NIC), "172.31.0.11:1 > 172.31.0.12:6443"),
            (From::Nic, "172.31.0.12:6443 > 172.31.0.11:1", Seen::Host, "10.96.0.2:443 > 172.31.0.11:1"),
        ),
        (
            (From::Nic, "172.31.0.2:1 > 172.31.0.11:30080", Seen::Pod(B), "172.31.0.2:1 > 10.244.1.3:8080"),
            (From::Pod(B), "10.244.1.3:8080 > 172.31.0.2:1", Seen::Nic(NIC), "172.31.0.11:30080 > 172.31.0.2:1"),
        ),
        (
            (From::Nic, "172.31.0.2:1 > 172.31.0.11:30081", node2(VNI_SERVICE), "172.31.0.2:1 > 10.244.2.2:8080"),
            (forwarded, "10.244.2.2:8080 > 172.31.0.2:1", Seen::Nic(NIC), "172.31.0.11:30081 > 172.31.0.2:1"),
        ),
        (
            (From::Nic, "172.31.0.2:1 > 172.31.0.11:30082", Seen::Pass, "172.31.0.2:1 > 172.31.0.11:6443"),
            (From::ToNic, "172.31.0.11:6443 > 172.31.0.2:1", Seen::Pass, "172.31.0.11:30082 > 172.31.0.2:1"),
        ),
    ] {
        check(&mut t, there, back);
    }
    // The other side of a node port: nothing is translated, and yet the answers have a row of their own.
    let node_port = (forwarded, "172.31.0.2:1 > 172.31.0.11:6443", Seen::Host, "172.31.0.2:1 > 172.31.0.11:6443");
    let answers =
        (From::ToNic, "172.31.0.11:6443 > 172.31.0.2:1", node2(VNI_SERVICE), "172.31.0.11:6443 > 172.31.0.2:1");
    check(&mut Test::<T>::new(), node_port, answers);
    masqueraded(&mut t);
}

/// The port that was chosen stays.
fn masqueraded<T: Bench>(t: &mut Test<T>) {
    let there = "10.244.1.2:1 > 172.31.0.2:80";
    let port = t.tcp(From::Pod(A), there, SYN).gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:80").sport();
    let (out, back) = (format!("172.31.0.11:{port} > 172.31.0.2:80"), format!("172.31.0.2:80 > 172.31.0.11:{port}"));
    t.lose(From::Nic, &back, TCP);
    check(
        t,
        (From::Pod(A), there, Seen::Nic(NIC), &out),
        (From::Nic, &back, Seen::Pod(A), "172.31.0.2:80 > 10.244.1.2:1"),
    );
}

/// A query from a port that was used before, when only one half of the earlier flow is left.
pub(crate) fn queries_after_a_lost_half<T: Bench>() {
    let mut t = Test::<T>::new();
    let (there, back) = ("10.244.1.2:9 > 10.96.0.14:53", "10.244.1.3:5353 > 10.244.1.2:9");
    for lost in [None, Some((From::Pod(B), back)), Some((From::Pod(A), there))] {
        if let Some((at, text)) = lost {
            t.lose(at, text, UDP);
        }
        t.udp(From::Pod(A), there).gives(Seen::Pod(B), "10.244.1.2:9 > 10.244.1.3:5353");
        t.udp(From::Pod(B), back).gives(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
    }
}

/// What goes on keeps its backend, whichever half is lost.
pub(crate) fn a_lost_half_moves_nobody<T: Bench>() {
    let mut t = Test::<T>::new();
    let (there, back) = ("10.244.1.2:1 > 10.96.0.10:80", "10.244.1.3:8080 > 10.244.1.2:1");
    let (out, home) = ("10.244.1.2:1 > 10.244.1.3:8080", "10.96.0.10:80 > 10.244.1.2:1");
    t.tcp(From::Pod(A), there, SYN).gives(Seen::Pod(B), out);
    t.change(|node| service(node, 20, "10.96.0.10:80", TCP, &[("10.244.2.2:8080", 0, 2)]));
    t.lose(From::Pod(B), back, TCP);
    t.tcp(From::Pod(A), there, SYN).gives(Seen::Pod(B), out);
    t.lose(From::Pod(A), there, TCP);
    t.tcp(From::Pod(B), back, SYN_ACK).gives(Seen::Pod(A), home);
    t.tcp(From::Pod(A), there, ACK).gives(Seen::Pod(B), out);
    t.tcp(From::Pod(B), back, ACK).gives(Seen::Pod(A), home);
}

/// While it was gone, another flow was given its key: that one keeps it, and the answers are told apart by a new port.
pub(crate) fn a_lost_half_that_is_taken<T: Bench>() {
    let mut t = Test::<T>::new();
    let (there, back) = ("10.244.1.2:9 > 10.96.0.14:53", "10.244.1.3:5353 > 10.244.1.2:9");
    let direct = "10.244.1.2:9 > 10.244.1.3:5353";
    t.udp(From::Pod(A), there).gives(Seen::Pod(B), direct);
    t.lose(From::Pod(B), back, UDP);
    t.udp(From::Pod(A), direct).gives(Seen::Pod(B), direct);
    let port = t.udp(From::Pod(A), there).gives(Seen::Pod(B), "10.244.1.2:* > 10.244.1.3:5353").sport();
    assert_ne!(port, 9);
    let answer = format!("10.244.1.3:5353 > 10.244.1.2:{port}");
    t.udp(From::Pod(B), &answer).gives(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
    t.udp(From::Pod(B), back).gives(Seen::Pod(A), back);
}
