//! Scenarios of what flows remember: generations, reservations, and packets that are nobody's.
use super::{HOST, node2};
use crate::{
    bench::{ACK, Bench, FIN, From, Got, RST, SYN, SYN_ACK, Seen, Test, addr, tuple, v6},
    world::{self, A, B, NET, NIC, POD_A, POD_B, pod, service},
};
use abi::{
    DropReason,
    config::VNI_POD,
    pod::{HOST as HOST_POD, READY},
    route::{NOT_MASQUERADED, Route},
    service::ALIVE,
};
use datapath::{
    parse::{ETHERNET, ICMP, ICMPV6, TCP, UDP},
    sim::frame::{Make, layout, resum, sum_header, sums_right},
};

const THERE: (From, &str, Seen, &str) =
    (From::Pod(A), "10.244.1.2:1 > 10.96.0.10:80", Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
const BACK: (From, &str, Seen, &str) =
    (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1");

pub(crate) fn generations<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(THERE, BACK);
    // Rules may have changed for a pod, a tunnel for a node: judged anew, and on it goes.
    t.change(|node| node.pod.get_mut(&POD_B).unwrap().generation += 1);
    t.tcp(BACK.0, BACK.1, ACK).gives(BACK.2, BACK.3);
    t.tcp(THERE.0, THERE.1, ACK).gives(THERE.2, THERE.3);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.2.2:80", SYN).gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:80");
    t.change(|node| {
        let row = node.nodes.get_mut(&2).unwrap();
        (row.generation, row.tunnel) = (2, addr("172.31.0.22"));
    });
    let moved = Seen::Encap(addr("172.31.0.22"), VNI_POD);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.244.2.2:80", SYN).gives(moved, "10.244.1.2:1 > 10.244.2.2:80");
}

pub(crate) fn a_pod_that_is_replaced<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(THERE, BACK);
    // The slot of B is another pod's now, with another address.
    t.change(|node| {
        node.pods.remove(&addr("10.244.1.3"));
        pod(node, POD_B, "10.244.1.9", B, READY);
        node.pod.get_mut(&POD_B).unwrap().generation = 9;
    });
    t.tcp(BACK.0, BACK.1, ACK).drops(DropReason::SpoofedSource);
    t.tcp(THERE.0, THERE.1, ACK).drops(DropReason::UnknownPod);
}

pub(crate) fn a_backend_that_goes<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(THERE, BACK);
    t.change(|node| {
        let row = node.backends.get_mut(&10).unwrap();
        (row.flags, row.generation) = (row.flags & !ALIVE, 2);
        service(node, 20, "10.96.0.10:80", TCP, &[("10.244.2.2:8080", 0, 2)]);
    });
    // Its last packets still come back translated; the client's next one finds the new backend.
    t.tcp(BACK.0, BACK.1, FIN).gives(BACK.2, BACK.3);
    t.tcp(THERE.0, THERE.1, ACK).gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080");
}

/// A backend is lost, and its service knows others: SYNs that come again ask the service, and late answers are nobody's. Who
/// has answered keeps its connection.
pub(crate) fn a_backend_that_does_not_answer<T: Bench>() {
    let mut t = Test::<T>::new();
    let lost = |t: &mut Test<T>, port: u16| {
        let text = format!("10.244.1.2:{port} > 10.96.0.20:80");
        t.tcp(From::Pod(A), &text, SYN).gives(node2(VNI_POD), &format!("10.244.1.2:{port} > 10.244.2.2:8080"));
        text
    };
    t.change(|node| service(node, 20, "10.96.0.20:80", TCP, &[("10.244.2.2:8080", 0, 2)]));
    let (silent, answered) = (lost(&mut t, 1), lost(&mut t, 2));
    let there = From::Overlay("172.31.0.12");
    t.tcp(there, "10.244.2.2:8080 > 10.244.1.2:2", SYN_ACK).gives(Seen::Pod(A), "10.96.0.20:80 > 10.244.1.2:2");
    t.change(|node| service(node, 21, "10.96.0.20:80", TCP, &[("10.244.1.3:8080", POD_B, 1)]));
    t.wait();
    t.tcp(From::Pod(A), &silent, SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
    t.tcp(From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", SYN_ACK).gives(Seen::Pod(A), "10.96.0.20:80 > 10.244.1.2:1");
    t.tcp(there, "10.244.2.2:8080 > 10.244.1.2:1", SYN_ACK).gives(Seen::Pod(A), "10.244.2.2:8080 > 10.244.1.2:1");
    t.tcp(From::Pod(A), &silent, ACK).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
    t.tcp(From::Pod(A), &answered, SYN).gives(node2(VNI_POD), "10.244.1.2:2 > 10.244.2.2:8080");
}

/// Two services with one backend, from the same source port: the answers must be told apart.
pub(crate) fn taken_answers_move_the_port<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(THERE, BACK);
    let second = "10.244.1.2:1 > 10.96.0.15:80";
    let port = t.tcp(From::Pod(A), second, SYN).gives(Seen::Pod(B), "10.244.1.2:* > 10.244.1.3:8080").sport();
    assert_ne!(port, 1);
    t.tcp(From::Pod(B), &format!("10.244.1.3:8080 > 10.244.1.2:{port}"), SYN_ACK)
        .gives(Seen::Pod(A), "10.96.0.15:80 > 10.244.1.2:1");
    t.tcp(THERE.0, THERE.1, ACK).gives(THERE.2, THERE.3);
    t.tcp(BACK.0, BACK.1, ACK).gives(BACK.2, BACK.3);
    // With a second backend that one is taken instead, and the port stays.
    t.change(|node| {
        service(node, 30, "10.96.0.30:80", TCP, &[("10.244.1.3:8080", POD_B, 1)]);
        service(node, 31, "10.96.0.31:80", TCP, &[("10.244.1.3:8080", POD_B, 1), ("10.244.2.2:8080", 0, 2)]);
    });
    t.tcp(From::Pod(A), "10.244.1.2:5 > 10.96.0.30:80", SYN).gives(Seen::Pod(B), "10.244.1.2:5 > 10.244.1.3:8080");
    t.tcp(From::Pod(A), "10.244.1.2:5 > 10.96.0.31:80", SYN);
}

/// A host flow whose answers a masqueraded pod's flow would take moves its port, and gets its answers back.
pub(crate) fn a_host_flow_gives_way<T: Bench>() {
    let mut t = Test::<T>::new();
    let port = t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN).sport();
    let host = format!("172.31.0.11:{port} > 172.31.0.2:80");
    let moved = t.tcp(From::ToNic, &host, SYN).gives(Seen::Pass, "172.31.0.11:* > 172.31.0.2:80").sport();
    assert_ne!(moved, port);
    t.tcp(From::Nic, &format!("172.31.0.2:80 > 172.31.0.11:{moved}"), SYN_ACK)
        .gives(Seen::Pass, &format!("172.31.0.2:80 > 172.31.0.11:{port}"));
    t.tcp(From::ToNic, &host, ACK).gives(Seen::Pass, &format!("172.31.0.11:{moved} > 172.31.0.2:80"));
    t.tcp(From::Nic, &format!("172.31.0.2:80 > 172.31.0.11:{port}"), SYN_ACK)
        .gives(Seen::Pod(A), "172.31.0.2:80 > 10.244.1.2:1");
    // Another destination is no concern.
    let other = format!("172.31.0.11:{port} > 172.31.0.2:81");
    t.tcp(From::ToNic, &other, SYN).gives(Seen::Pass, &other);
}

pub(crate) fn a_socket_keeps_its_port<T: Bench>() {
    let mut t = Test::<T>::new();
    // Only one port to choose from, and a socket of the host has it.
    t.change(|node| {
        (node.settings.masquerade_first, node.settings.masquerade_last) = (61_000, 61_000);
        let answer = tuple("172.31.0.2:80 > 172.31.0.11:61000");
        node.sockets.insert((answer, TCP));
        node.sockets.insert((answer, UDP));
    });
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
    t.udp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80").drops(DropReason::NoPort);
}

/// One port to choose from: the second flow to the same server is refused, and says why; one to another server is not.
pub(crate) fn ports_run_out<T: Bench>() {
    let mut t = Test::<T>::new();
    t.change(|node| (node.settings.masquerade_first, node.settings.masquerade_last) = (61_000, 61_000));
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", SYN).gives(Seen::Nic(NIC), "172.31.0.11:61000 > 172.31.0.2:80");
    t.tcp(From::Pod(A), "10.244.1.2:2 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
    t.tcp(From::Pod(B), "10.244.1.3:1 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
    t.tcp(From::Pod(B), "10.244.1.3:1 > 172.31.0.2:81", SYN).gives(Seen::Nic(NIC), "172.31.0.11:61000 > 172.31.0.2:81");
    t.ping(From::Pod(A), "10.244.1.2:7 > 172.31.0.2:7").gives(Seen::Nic(NIC), "172.31.0.11:61000 > 172.31.0.2:61000");
    t.ping(From::Pod(B), "10.244.1.3:7 > 172.31.0.2:7").drops(DropReason::NoPort);
    // The first one is not disturbed.
    t.tcp(From::Nic, "172.31.0.2:80 > 172.31.0.11:61000", SYN_ACK).gives(Seen::Pod(A), "172.31.0.2:80 > 10.244.1.2:1");
    // And a node port is never one to choose.
    t.change(|node| (node.settings.masquerade_first, node.settings.masquerade_last) = (30_999, 30_999));
    t.tcp(From::Pod(A), "10.244.1.2:9 > 172.31.0.2:80", SYN).drops(DropReason::NoPort);
}

/// Where the way to pods is known, they keep their addresses; that alone makes nobody one of ours.
pub(crate) fn some_keep_their_source<T: Bench>() {
    let mut t = Test::<T>::new();
    t.change(|node| node.route(world::prefix("172.31.0.2/32"), Route { node: 0, flags: NOT_MASQUERADED }));
    let (there, back) = ("10.244.1.2:1 > 172.31.0.2:80", "172.31.0.2:80 > 10.244.1.2:1");
    t.connect((From::Pod(A), there, Seen::Nic(NIC), there), (From::Nic, back, Seen::Pod(A), back));
    t.ping(From::Pod(A), "10.244.1.2:7 > 172.31.0.2:7").gives(Seen::Nic(NIC), "10.244.1.2:7 > 172.31.0.2:7");
    t.tcp(From::Pod(A), "10.244.1.2:1 > 172.31.0.3:80", SYN).gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.3:80");
    let ssh = "172.31.0.2:1 > 172.31.0.11:22";
    t.tcp(From::Nic, ssh, SYN).gives(Seen::Pass, ssh);
}

pub(crate) fn masqueraded_ports_differ<T: Bench>() {
    let mut t = Test::<T>::new();
    let mut ports = Vec::new();
    for client in 1..40 {
        let text = format!("10.244.1.2:{client} > 172.31.0.2:80");
        let port = t.tcp(From::Pod(A), &text, SYN).gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:80").sport();
        assert!(!ports.contains(&port), "{port} twice");
        ports.push(port);
    }
}

pub(crate) fn nic_passes_the_hosts_own<T: Bench>() {
    let mut t = Test::<T>::new();
    for (from, text) in [
        (From::Nic, "172.31.0.2:1 > 172.31.0.11:22"),
        (From::Nic, "172.31.0.12:1 > 172.31.0.11:6443"),
        (From::ToNic, "172.31.0.11:22 > 172.31.0.2:1"),
        (From::ToNic, "172.31.0.11:40000 > 172.31.0.2:443"),
        (From::ToNic, "172.31.0.11:62000 > 172.31.0.2:443"),
    ] {
        t.tcp(from, text, SYN).gives(Seen::Pass, text);
        t.tcp(from, text, ACK).gives(Seen::Pass, text);
        t.udp(from, text).gives(Seen::Pass, text);
    }
    t.udp(From::Nic, "172.31.0.12:5555 > 172.31.0.11:8472").gives(Seen::Pass, "172.31.0.12:5555 > 172.31.0.11:8472");
    t.udp(From::ToNic, "172.31.0.11:5555 > 172.31.0.12:8472").gives(Seen::Pass, "172.31.0.11:5555 > 172.31.0.12:8472");
}

pub(crate) fn own_addresses_from_outside<T: Bench>() {
    let mut t = Test::<T>::new();
    let bad = DropReason::OwnAddressFromOutside;
    for source in ["10.244.1.2", "10.244.2.2", "10.244.9.9", "10.96.0.10", "172.31.0.11"] {
        t.tcp(From::Nic, &format!("{source}:1 > 172.31.0.11:30080"), SYN).drops(bad);
        t.udp(From::Nic, &format!("{source}:1 > 172.31.0.11:22")).drops(bad);
    }
}

pub(crate) fn fragments_and_nonsense<T: Bench>() {
    let mut t = Test::<T>::new();
    let good = Test::<T>::make("10.244.1.2:1 > 10.244.1.3:80", UDP, 0).bytes();
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let (length, proto) = if v6() { (19, 20) } else { (17, 23) };
    t.raw(From::Pod(A), &with(13, 0x99)).drops(DropReason::UnsupportedProtocol);
    t.raw(From::Pod(A), &with(proto, 132)).drops(DropReason::UnsupportedProtocol);
    t.raw(From::Pod(A), &with(14, 0x35)).drops(DropReason::Malformed);
    t.raw(From::Pod(A), &with(length, 200)).drops(DropReason::Malformed);
    // Ports behind the packet's own end, in what fills up the frame, are nobody's.
    t.raw(From::Pod(A), &with(length, if v6() { 7 } else { 27 })).drops(DropReason::Malformed);
    let mut short = Test::<T>::make("10.244.1.2:1 > 10.244.1.3:80", TCP, SYN).bytes();
    short[length] = if v6() { 19 } else { 39 };
    t.raw(From::Pod(A), &short).drops(DropReason::Malformed);
    // The other family's ICMP, and a header that is no header.
    t.raw(From::Pod(A), &with(proto, if v6() { ICMP } else { ICMPV6 })).drops(DropReason::UnsupportedProtocol);
    if !v6() {
        t.raw(From::Pod(A), &with(14, 0x44)).drops(DropReason::Malformed);
        t.raw(From::Pod(A), &with(21, 1)).drops(DropReason::Fragment);
    }
    for at in [12, 14, length, proto] {
        assert_eq!(t.raw(From::Nic, &with(at, 200)).seen, Seen::Pass, "byte {at}: the host's business");
    }
}

pub(crate) fn time_to_live<T: Bench>() {
    let mut t = Test::<T>::new();
    let mut hop = |from, text, ttl: u8| {
        let mut make = Test::<T>::make(text, UDP, 0);
        make.ttl = ttl;
        t.send(from, &make)
    };
    assert_eq!(hop(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80", 64).ttl(), 63);
    assert_eq!(hop(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80", 2).ttl(), 1);
    assert_eq!(hop(From::Pod(A), "10.244.1.2:1 > 172.31.0.2:80", 9).ttl(), 8);
    assert_eq!(hop(From::Overlay("172.31.0.12"), "10.244.2.2:1 > 10.244.1.3:80", 9).ttl(), 8);
    // To and from the host itself there is no router between.
    assert_eq!(hop(From::Pod(A), "10.244.1.2:1 > 172.31.0.11:80", 1).ttl(), 1);
    assert_eq!(hop(HOST, "172.31.0.11:1 > 10.244.1.3:80", 64).ttl(), 64);
    hop(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80", 1).drops(DropReason::TtlExceeded);
}

/// ICMP errors follow the flow that they are about.
pub(crate) fn errors_about_flows<T: Bench>() {
    let mut t = Test::<T>::new();
    t.udp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:80").gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:80");
    let mut error = unreachable::<T>("10.244.1.3", "10.244.1.2:1 > 10.244.1.3:80");
    assert_eq!(t.raw(From::Pod(B), &error).seen, Seen::Pod(A));
    assert_eq!(t.raw(From::Pod(A), &error).seen, Seen::Drop(DropReason::StaleFlow));
    // About nothing that we know.
    let inner = layout(&error, quoted_at());
    error[inner.src.end - 1] = 77;
    t.raw(From::Pod(B), &error).drops(DropReason::StaleFlow);
}

/// An ICMP error of `source`, quoting a UDP packet.
fn unreachable<T: Bench>(source: &str, quoted: &str) -> Vec<u8> {
    let (to, _) = quoted.split_once(':').unwrap();
    let make = Test::<T>::make(&format!("{source}:0 > {to}:0"), ICMP, if v6() { 1 } else { 3 });
    error_about(&make, &Test::<T>::make(quoted, UDP, 0).bytes())
}

/// Where an error without options or extension headers quotes.
fn quoted_at() -> usize {
    if v6() { 62 } else { 42 }
}

/// The ICMP packet, as an error that quotes the other.
pub(crate) fn error_about(make: &Make, quoted: &[u8]) -> Vec<u8> {
    let mut error = make.bytes();
    error.truncate(layout(&error, ETHERNET).l4 + 8);
    error.extend_from_slice(&quoted[14..]);
    let length = error.len() - 14;
    if v6() {
        error[19] = (length - 40) as u8; // Extension headers are part of the payload.
    } else {
        error[17] = length as u8;
    }
    sum_header(&mut error, ETHERNET);
    resum(&mut error);
    error
}

/// And what they quote is translated back.
pub(crate) fn errors_about_translated_flows<T: Bench>() {
    let mut t = Test::<T>::new();
    let quotes = |got: &Got, source: &str, quoted: &str| quotes(got, &unreachable::<T>(source, quoted));
    t.udp(From::Pod(A), "10.244.1.2:9 > 10.96.0.14:53");
    let got = t.raw(From::Pod(B), &unreachable::<T>("10.244.1.3", "10.244.1.2:9 > 10.244.1.3:5353"));
    assert_eq!(got.seen, Seen::Pod(A));
    quotes(&got, "10.96.0.14", "10.244.1.2:9 > 10.96.0.14:53");
    // A router on the way of a masqueraded flow keeps its own address.
    let port = t.udp(From::Pod(A), "10.244.1.2:9 > 8.8.8.8:53").sport();
    let got = t.raw(From::Nic, &unreachable::<T>("172.31.0.1", &format!("172.31.0.11:{port} > 8.8.8.8:53")));
    assert_eq!(got.seen, Seen::Pod(A));
    quotes(&got, "172.31.0.1", "10.244.1.2:9 > 8.8.8.8:53");
}

/// Outer addresses, and of the quoted packet header and ports, are as expected.
#[track_caller]
fn quotes(got: &Got, expected: &[u8]) {
    let outer = layout(expected, ETHERNET);
    let (from, to) = (outer.src.start, outer.dst.end);
    assert_eq!(got.bytes[from..to], expected[from..to], "outer addresses");
    let ports = layout(expected, quoted_at()).l4 + 4;
    let header = if v6() { quoted_at() } else { quoted_at() + 10 };
    assert_eq!(got.bytes[header..ports], expected[header..ports], "quoted header and ports");
    assert!(sums_right(&got.bytes));
}

/// The other way: what a pod says of a masqueraded flow's answers, and of what came by a node port.
pub(crate) fn errors_leave_translated<T: Bench>() {
    let mut t = Test::<T>::new();
    let port = t.udp(From::Pod(A), "10.244.1.2:9 > 8.8.8.8:53").sport();
    let answer = format!("8.8.8.8:53 > 172.31.0.11:{port}");
    t.udp(From::Nic, &answer).gives(Seen::Pod(A), "8.8.8.8:53 > 10.244.1.2:9");
    let got = t.raw(From::Pod(A), &unreachable::<T>("10.244.1.2", "8.8.8.8:53 > 10.244.1.2:9"));
    assert_eq!(got.seen, Seen::Nic(NIC));
    quotes(&got, &unreachable::<T>("172.31.0.11", &answer));
    // A node port's client is told by the node, and never hears of the pod.
    t.change(|node| service(node, 17, "30090", UDP, &[("10.244.1.3:5353", POD_B, 1)]));
    t.udp(From::Nic, "172.31.0.2:9 > 172.31.0.11:30090").gives(Seen::Pod(B), "172.31.0.2:9 > 10.244.1.3:5353");
    let got = t.raw(From::Pod(B), &unreachable::<T>("10.244.1.3", "172.31.0.2:9 > 10.244.1.3:5353"));
    assert_eq!(got.seen, Seen::Nic(NIC));
    quotes(&got, &unreachable::<T>("172.31.0.11", "172.31.0.2:9 > 172.31.0.11:30090"));
}

pub(crate) fn to_pod_from_the_stack<T: Bench>() {
    let mut t = Test::<T>::new();
    let text = "172.31.0.11:1 > 10.244.1.2:80";
    t.tcp(From::ToPod(A), text, SYN).gives(Seen::Pod(A), text);
    t.tcp(From::ToPod(A), "10.244.1.3:1 > 10.244.1.2:80", SYN).drops(DropReason::SpoofedSource);
    t.change(|node| {
        assert_eq!(node.pods[&addr("172.31.0.11")], HOST_POD);
        assert_ne!(node.settings.host_ifindex, NET);
        node.pod.get_mut(&POD_A).unwrap().flags = 0;
        node.pod.get_mut(&POD_A).unwrap().generation += 1;
    });
    t.tcp(From::ToPod(A), text, SYN).drops(DropReason::PodNotReady);
}

pub(crate) fn pod_to_overlay_port<T: Bench>() {
    let mut t = Test::<T>::new();
    for node in ["172.31.0.11", "172.31.0.12"] {
        t.udp(From::Pod(A), &format!("10.244.1.2:1 > {node}:8472")).drops(DropReason::PodToOverlay);
    }
    t.udp(From::Pod(A), "10.244.1.2:1 > 10.244.1.3:8472").gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8472");
}

pub(crate) fn forged_senders<T: Bench>() {
    let mut t = Test::<T>::new();
    let text = "10.244.1.2:1 > 10.244.1.3:80";
    let mut make = Test::<T>::make(text, TCP, SYN);
    for mac in [world::GATEWAY, world::mac(B), [0; 6]] {
        make.link[1] = mac;
        t.send(From::Pod(A), &make).drops(DropReason::WrongMac);
    }
    t.tcp(From::Pod(A), text, SYN).gives(Seen::Pod(B), text);
    // A server that nobody asked; an answer to who asked it is one.
    for (server, client) in [(67, 68), (547, 546)] {
        let (ask, offer) = (
            format!("10.244.1.2:{client} > 10.244.1.3:{server}"),
            format!("10.244.1.3:{server} > 10.244.1.2:{client}"),
        );
        t.udp(From::Pod(B), &offer).drops(DropReason::RogueDhcp);
        t.udp(From::Pod(A), &ask).gives(Seen::Pod(B), &ask);
        t.udp(From::Pod(B), &offer).gives(Seen::Pod(A), &offer);
    }
}

/// A port that is used again: a new connection, which may go to another backend.
pub(crate) fn reopened_connection<T: Bench>() {
    let mut t = Test::<T>::new();
    t.connect(THERE, BACK);
    t.change(|node| service(node, 20, "10.96.0.10:80", TCP, &[("10.244.2.2:8080", 0, 2)]));
    t.tcp(THERE.0, THERE.1, SYN).gives(THERE.2, THERE.3); // Repeated or stray: the connection stays.
    t.tcp(THERE.0, THERE.1, RST).gives(THERE.2, THERE.3);
    t.tcp(THERE.0, THERE.1, SYN).gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080");
}
