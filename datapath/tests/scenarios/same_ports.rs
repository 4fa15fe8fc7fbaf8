//! Scenarios of flows whose addresses and ports are another flow's: both live, and neither gets the other's packets.
use super::{HOST, node2};
use crate::{
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test, addr, tuple},
    world::{A, B, NIC, prefix},
};
use abi::{
    DropReason,
    config::{VNI_POD, VNI_SERVICE},
    flow::{SIDE_TURN, SIDE_WIRE},
    route::{NODE_ADDRESS, Node as NodeRow, Route},
};
use datapath::parse::{TCP, UDP};

/// What a client outside sends from its one port, as it comes in, and where the pod's answers to it go.
type Door = (From, &'static str, Seen, &'static str);

const FORWARDED: &str = "172.31.0.2:1 > 10.244.1.3:8080";
const ANSWERED: &str = "10.244.1.3:8080 > 172.31.0.2:1";
/// The nodes that forward, besides node 2.
const NODES: [(u32, &str, &str); 3] =
    [(3, "172.31.0.13", "172.31.0.13/32"), (4, "172.31.0.14", "172.31.0.14/32"), (5, "172.31.0.15", "172.31.0.15/32")];

fn by_node(node: &'static str) -> Door {
    (From::Service(node), FORWARDED, Seen::Encap(addr(node), VNI_SERVICE), ANSWERED)
}

fn by_our_node_port() -> Door {
    (From::Nic, "172.31.0.2:1 > 172.31.0.11:30080", Seen::Nic(NIC), "172.31.0.11:30080 > 172.31.0.2:1")
}

fn nodes<T: Bench>() -> Test<T> {
    let mut t = Test::<T>::new();
    t.change(|node| {
        for (id, at, range) in NODES {
            node.nodes.insert(id, NodeRow { tunnel: addr(at), generation: 1, ..NodeRow::default() });
            node.route(prefix(range), Route { node: id, flags: NODE_ADDRESS });
        }
    });
    t
}

/// What the client sends, as the pod gets it; the port it has there.
#[track_caller]
fn there<T: Bench>(t: &mut Test<T>, door: Door, flags: u8) -> u16 {
    t.tcp(door.0, door.1, flags).gives(Seen::Pod(B), "172.31.0.2:* > 10.244.1.3:8080").sport()
}

#[track_caller]
fn back<T: Bench>(t: &mut Test<T>, door: Door, port: u16, flags: u8) {
    t.tcp(From::Pod(B), &format!("10.244.1.3:8080 > 172.31.0.2:{port}"), flags).gives(door.2, door.3);
}

/// Connections by these doors, one after the other; then all of them go on.
#[track_caller]
fn check<T: Bench>(doors: &[Door]) {
    let mut t = nodes::<T>();
    let mut ports = Vec::new();
    for door in doors {
        let port = there(&mut t, *door, SYN);
        assert!(!ports.contains(&port), "{port} of {ports:?}");
        assert_eq!(there(&mut t, *door, SYN), port, "the same packet once more");
        back(&mut t, *door, port, SYN_ACK);
        assert_eq!(there(&mut t, *door, ACK), port);
        ports.push(port);
    }
    assert_eq!(ports[0], 1, "nothing is in the first one's way");
    for _ in 0..2 {
        for (door, port) in doors.iter().zip(&ports) {
            assert_eq!(there(&mut t, *door, ACK), *port);
            back(&mut t, *door, *port, ACK);
        }
    }
}

/// A client outside asks several nodes from one port, and all lead to one pod.
pub(crate) fn one_port_through_several_nodes<T: Bench>() {
    crate::bench::speak(T::V6);
    let (second, third, own) = (by_node("172.31.0.12"), by_node("172.31.0.13"), by_our_node_port());
    check::<T>(&[second, third]);
    check::<T>(&[second, own]);
    check::<T>(&[own, second]);
    check::<T>(&[own, second, third]);
    check::<T>(&[third, own, second]);
    check::<T>(&[second, third, by_node("172.31.0.14"), by_node("172.31.0.15")]);
}

/// More than there are keys for are refused, and nobody else suffers.
pub(crate) fn one_port_through_too_many_nodes<T: Bench>() {
    let mut t = nodes::<T>();
    let doors = [by_our_node_port(), by_node("172.31.0.12"), by_node("172.31.0.13"), by_node("172.31.0.14")];
    let ports = doors.map(|door| there(&mut t, door, SYN));
    t.tcp(From::Service("172.31.0.15"), FORWARDED, SYN).drops(DropReason::NoPort);
    for (door, port) in doors.into_iter().zip(ports) {
        back(&mut t, door, port, SYN_ACK);
        assert_eq!(there(&mut t, door, ACK), port);
    }
}

/// Whichever row is lost before the connection is established, the other connection's packets stay its own.
pub(crate) fn one_port_after_a_lost_row<T: Bench>() {
    let mut t = nodes::<T>();
    let doors = [by_node("172.31.0.12"), by_node("172.31.0.13")];
    let [one, other] = doors.map(|door| there(&mut t, door, SYN));
    t.lose(From::Service("172.31.0.12"), FORWARDED, TCP);
    assert_eq!(there(&mut t, doors[1], SYN), other);
    back(&mut t, doors[1], other, SYN_ACK);
    assert_eq!(there(&mut t, doors[0], SYN), one, "its key is free again");
    t.0.evict(&tuple(FORWARDED).key(TCP, SIDE_WIRE + SIDE_TURN).0);
    back(&mut t, doors[1], other, SYN_ACK);
    t.lose(From::Pod(B), &format!("10.244.1.3:8080 > 172.31.0.2:{other}"), TCP);
    for (door, port) in doors.into_iter().zip([one, other]).rev() {
        assert_eq!(there(&mut t, door, ACK), port);
        back(&mut t, door, port, ACK);
    }
}

/// Queries, whose first packet looks like any other.
pub(crate) fn one_port_by_datagrams<T: Bench>() {
    let mut t = nodes::<T>();
    let forwarded = "172.31.0.2:1 > 10.244.1.3:5353";
    let doors = ["172.31.0.12", "172.31.0.13"];
    let mut ports = [0; 2];
    for _ in 0..3 {
        for (door, port) in doors.into_iter().zip(&mut ports) {
            let seen =
                t.udp(From::Service(door), forwarded).gives(Seen::Pod(B), "172.31.0.2:* > 10.244.1.3:5353").sport();
            assert!(*port == 0 || *port == seen, "{port} was {seen}");
            *port = seen;
            t.udp(From::Pod(B), &format!("10.244.1.3:5353 > 172.31.0.2:{seen}"))
                .gives(Seen::Encap(addr(door), VNI_SERVICE), "10.244.1.3:5353 > 172.31.0.2:1");
        }
    }
    assert_ne!(ports[0], ports[1]);
}

/// A backend on this node's own host, asked through two other nodes and by our node port.
pub(crate) fn one_port_to_a_host_backend<T: Bench>() {
    let mut t = nodes::<T>();
    let forwarded = "172.31.0.2:1 > 172.31.0.11:6443";
    let mut talks = Vec::new();
    for node in ["172.31.0.12", "172.31.0.13"] {
        let port =
            t.tcp(From::Service(node), forwarded, SYN).gives(Seen::Host, "172.31.0.2:* > 172.31.0.11:6443").sport();
        talks.push((node, port));
    }
    assert_ne!(talks[0].1, talks[1].1);
    for flags in [SYN_ACK, ACK] {
        for (node, port) in &talks {
            t.tcp(From::ToNic, &format!("172.31.0.11:6443 > 172.31.0.2:{port}"), flags)
                .gives(Seen::Encap(addr(node), VNI_SERVICE), "172.31.0.11:6443 > 172.31.0.2:1");
            let seen = t.tcp(From::Service(node), forwarded, ACK).gives(Seen::Host, "172.31.0.2:* > 172.31.0.11:6443");
            assert_eq!(seen.sport(), *port);
        }
    }
}

/// A pod, or the host, asks a backend through its service and then by its own address, from one port.
pub(crate) fn one_port_by_a_service_and_without<T: Bench>() {
    let mut t = nodes::<T>();
    let node = From::Overlay("172.31.0.12");
    for (from, source, service, backend, at, answers, seen) in [
        (From::Pod(A), "10.244.1.2:1", "10.96.0.10:80", "10.244.1.3:8080", Seen::Pod(B), From::Pod(B), Seen::Pod(A)),
        (From::Pod(A), "10.244.1.2:2", "10.96.0.11:80", "10.244.2.2:8080", node2(VNI_POD), node, Seen::Pod(A)),
        (HOST, "172.31.0.11:1", "10.96.0.10:80", "10.244.1.3:8080", Seen::Pod(B), From::Pod(B), Seen::Host),
    ] {
        let (translated, direct) = (format!("{source} > {service}"), format!("{source} > {backend}"));
        let (home, home_direct) = (format!("{service} > {source}"), format!("{backend} > {source}"));
        t.connect((from, &translated, at, &direct), (answers, &home_direct, seen, &home));
        let address = source.split_once(':').unwrap().0;
        let moved = format!("{address}:* > {backend}");
        let port = t.tcp(from, &direct, SYN).gives(at, &moved).sport();
        let answer = format!("{backend} > {address}:{port}");
        assert_ne!(answer, home_direct);
        for flags in [SYN_ACK, ACK, ACK] {
            t.tcp(answers, &answer, flags).gives(seen, &home_direct);
            t.tcp(from, &direct, ACK).gives(at, &format!("{address}:{port} > {backend}"));
            t.tcp(from, &translated, ACK).gives(at, &direct);
            t.tcp(answers, &home_direct, ACK).gives(seen, &home);
        }
    }
    let (asked, direct) = ("10.244.1.2:9 > 10.96.0.14:53", "10.244.1.2:9 > 10.244.1.3:5353");
    t.send(From::Pod(A), &Test::<T>::make(asked, UDP, 0)).gives(Seen::Pod(B), direct);
    assert_ne!(t.udp(From::Pod(A), direct).gives(Seen::Pod(B), "10.244.1.2:* > 10.244.1.3:5353").sport(), 9);
    t.udp(From::Pod(B), "10.244.1.3:5353 > 10.244.1.2:9").gives(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
}
