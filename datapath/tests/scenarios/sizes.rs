//! Scenarios of packets that are larger than their way.
use super::{
    HOST, error_about,
    native::{bare, native},
    node2,
};
use crate::{
    bench::{ACK, Bench, From, Got, Seen, Test, addr, icmp, v6},
    world::{A, B, GATEWAY, NIC, POD_B, POD_MAC, mac},
};
use abi::{
    DropReason,
    config::{VNI_POD, VNI_SERVICE},
    pod::QUEUED,
    route::{LEAST_MTU, OVERHEAD, SPLITS},
};
use datapath::{
    checksum,
    parse::{ETHERNET, ICMP, TCP, UDP},
    sim::{
        Node,
        frame::{Make, layout, resum, sum_header, sums_right},
    },
    too_big::QUOTE,
};

/// What fits towards node 2, and what the NIC carries.
const OVERLAY: usize = 1_450;
const WIRE: usize = 1_500;

fn sizes(node: &mut Node) {
    node.nodes.get_mut(&1).unwrap().mtu = WIRE as u32;
    node.nodes.get_mut(&2).unwrap().mtu = OVERLAY as u32;
}

fn new<T: Bench>() -> Test<T> {
    let mut t = Test::<T>::new();
    t.change(sizes);
    t
}

/// A packet of that many bytes from its network header on.
fn long(make: &Make, bytes: usize) -> Vec<u8> {
    let mut packet = make.bytes();
    packet.resize(ETHERNET + bytes, 0x77);
    let l4 = layout(&packet, ETHERNET).l4;
    if make.proto == UDP {
        let length = ((packet.len() - l4) as u16).to_be_bytes();
        packet[l4 + 4..l4 + 6].copy_from_slice(&length);
    }
    let (at, length) = if v6() { (18, bytes - 40) } else { (16, bytes) };
    packet[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    sum_header(&mut packet, ETHERNET);
    resum(&mut packet);
    packet
}

fn udp<T: Bench>(text: &str, bytes: usize) -> Vec<u8> {
    long(&Test::<T>::make(text, UDP, 0), bytes)
}

fn tcp<T: Bench>(text: &str, bytes: usize) -> Vec<u8> {
    long(&Test::<T>::make(text, TCP, ACK), bytes)
}

/// The same without the flag that forbids to split it.
fn splittable(mut packet: Vec<u8>) -> Vec<u8> {
    packet[20] = 0;
    sum_header(&mut packet, ETHERNET);
    packet
}

/// It is the message that this packet's sender must get.
#[track_caller]
fn tells(got: &Got, packet: &[u8], from: &str, mtu: usize, link: [[u8; 6]; 2]) {
    assert_eq!(got.seen, Seen::Reply);
    let (new, old) = (layout(&got.bytes, ETHERNET), layout(packet, ETHERNET));
    assert!(sums_right(&got.bytes), "{:02x?}", got.bytes);
    assert_eq!([&got.bytes[..6], &got.bytes[6..12]], [&link[0][..], &link[1][..]], "link addresses");
    assert_eq!(&got.bytes[12..14], &packet[12..14]);
    assert_eq!(got.bytes[new.src.clone()], addr(from).bytes()[16 - new.src.len()..]);
    assert_eq!(got.bytes[new.dst.clone()], packet[old.src]);
    let kind = if v6() { [2, 0] } else { [3, 4] };
    assert_eq!((new.proto, &got.bytes[new.l4..new.l4 + 2]), (icmp(), &kind[..]));
    assert_eq!(got.bytes[new.l4 + 4..new.l4 + 8], (mtu as u32).to_be_bytes());
    let quoted = &got.bytes[new.l4 + 8..];
    assert_eq!(quoted, &packet[ETHERNET..ETHERNET + QUOTE], "the packet as its sender wrote it");
}

/// Link addresses of what pod A is told.
const TO_A: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, A as u8], GATEWAY];

pub(crate) fn too_big_for_the_overlay<T: Bench>() {
    let mut t = new::<T>();
    assert_eq!(TO_A[0], mac(A));
    // A first packet, a later one of its flow, an established connection's, one that a service translated.
    let text = "10.244.1.2:9 > 10.244.2.2:53";
    for _ in 0..2 {
        tells(
            &t.raw(From::Pod(A), &udp::<T>(text, OVERLAY + 1)),
            &udp::<T>(text, OVERLAY + 1),
            "172.31.0.11",
            OVERLAY,
            TO_A,
        );
        t.raw(From::Pod(A), &udp::<T>(text, OVERLAY)).gives(node2(VNI_POD), text);
    }
    let (there, back) = ("10.244.1.2:1 > 10.96.0.11:80", "10.244.2.2:8080 > 10.244.1.2:1");
    let overlay = From::Overlay("172.31.0.12");
    t.connect(
        (From::Pod(A), there, node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080"),
        (overlay, back, Seen::Pod(A), "10.96.0.11:80 > 10.244.1.2:1"),
    );
    let large = tcp::<T>(there, WIRE);
    tells(&t.raw(From::Pod(A), &large), &large, "172.31.0.11", OVERLAY, TO_A);
    t.raw(From::Pod(A), &tcp::<T>(there, OVERLAY)).gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080");
    // What comes from there is as large as it is.
    t.raw(overlay, &tcp::<T>(back, WIRE)).gives(Seen::Pod(A), "10.96.0.11:80 > 10.244.1.2:1");
    // The way changes while the flow lives; nothing known means nothing refused.
    t.change(|node| node.nodes.get_mut(&2).unwrap().mtu = 1_350);
    tells(&t.raw(From::Pod(A), &large), &large, "172.31.0.11", 1_350, TO_A);
    t.change(|node| node.nodes.get_mut(&2).unwrap().mtu = 0);
    t.raw(From::Pod(A), &large).gives(node2(VNI_POD), "10.244.1.2:1 > 10.244.2.2:8080");
}

/// Without an outer header the underlay's own MTU fits, also where the overlay would leave less of it than IPv6's least.
pub(crate) fn too_big_without_an_outer_header<T: Bench>() {
    let mut t = native::<T>();
    let (text, overhead) = ("10.244.1.2:9 > 10.244.2.2:53", OVERHEAD[usize::from(v6())]);
    for underlay in [LEAST_MTU, 1_301, 1_500] {
        t.change(|node| node.nodes.get_mut(&2).unwrap().mtu = underlay - overhead);
        let underlay = underlay as usize;
        let large = udp::<T>(text, underlay + 1);
        tells(&t.raw(From::Pod(A), &large), &large, "172.31.0.11", underlay, TO_A);
        t.raw(From::Pod(A), &udp::<T>(text, underlay)).gives(bare(), text);
    }
}

/// The overlay refuses nobody IPv6's least, nor tells less.
pub(crate) fn too_big_for_a_small_overlay<T: Bench>() {
    let mut t = new::<T>();
    let (text, least) = ("10.244.1.2:9 > 10.244.2.2:53", LEAST_MTU as usize);
    t.change(|node| node.nodes.get_mut(&2).unwrap().mtu = LEAST_MTU - 1);
    let large = udp::<T>(text, least + 1);
    tells(&t.raw(From::Pod(A), &large), &large, "172.31.0.11", least, TO_A);
    t.raw(From::Pod(A), &udp::<T>(text, least)).gives(node2(VNI_POD), text);
}

pub(crate) fn too_big_for_the_nic<T: Bench>() {
    let mut t = new::<T>();
    let text = "10.244.1.2:9 > 172.31.0.2:53";
    t.raw(From::Pod(A), &udp::<T>(text, WIRE)).gives(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:53");
    let large = udp::<T>(text, WIRE + 1);
    tells(&t.raw(From::Pod(A), &large), &large, "172.31.0.11", WIRE, TO_A);
    // Pods of one node have no wire between them.
    let near = "10.244.1.2:9 > 10.244.1.3:53";
    t.raw(From::Pod(A), &udp::<T>(near, WIRE + 1)).gives(Seen::Pod(B), near);
}

/// A client outside reaches a pod of another node through this one, and its packets need room for the outer header.
pub(crate) fn too_big_from_outside<T: Bench>() {
    let mut t = new::<T>();
    let text = "172.31.0.2:9 > 172.31.0.11:30081";
    let forwarded = "172.31.0.2:9 > 10.244.2.2:8080";
    t.raw(From::Nic, &tcp::<T>(text, OVERLAY)).gives(node2(VNI_SERVICE), forwarded);
    let large = tcp::<T>(text, WIRE);
    tells(&t.raw(From::Nic, &large), &large, "172.31.0.11", OVERLAY, [POD_MAC, GATEWAY]);
}

/// The host would not believe what comes from its own address.
pub(crate) fn too_big_from_the_host<T: Bench>() {
    let mut t = new::<T>();
    let text = "172.31.0.11:9 > 10.244.2.2:53";
    let large = udp::<T>(text, WIRE);
    tells(&t.raw(HOST, &large), &large, "169.254.42.1", OVERLAY, [POD_MAC, GATEWAY]);
}

/// A sender that leaves the checksum to a device writes its pseudo header's sum. A device without that skill completes it in
/// the middle of the message, and the message stays right.
pub(crate) fn a_checksum_for_somebody_else<T: Bench>() {
    let mut t = new::<T>();
    let text = "10.244.1.2:9 > 10.244.2.2:53";
    for (field, mut packet) in [(16, tcp::<T>(text, WIRE)), (6, udp::<T>(text, WIRE)), (16, tcp::<T>(text, 1_451))] {
        let old = layout(&packet, ETHERNET);
        let left = {
            let bytes = [&packet[old.src.clone()], &packet[old.dst.clone()]].concat();
            let length = ((packet.len() - old.l4) as u16).to_be();
            !checksum::of(&bytes, u64::from(length) + u64::from(u16::from(old.proto).to_be()))
        };
        packet[old.l4 + field..old.l4 + field + 2].copy_from_slice(&left.to_ne_bytes());
        let got = t.raw(From::Pod(A), &packet);
        assert_eq!((got.seen, sums_right(&got.bytes)), (Seen::Reply, true), "{:02x?}", got.bytes);
        let start = layout(&got.bytes, ETHERNET).l4 + 8 + old.l4 - ETHERNET;
        let mut completed = got.bytes.clone();
        let sum = checksum::of(&got.bytes[start..], 0);
        completed[start + field..start + field + 2].copy_from_slice(&sum.to_ne_bytes());
        assert_eq!(completed, got.bytes, "completed, it is what it was");
        // Nothing else of what is quoted has changed.
        let (quoted, at) = (&got.bytes[start + ETHERNET - old.l4..], old.l4 - ETHERNET + field);
        assert_eq!(quoted[..at], packet[ETHERNET..ETHERNET + at]);
        assert_eq!(quoted[at + 2..], packet[ETHERNET + at + 2..ETHERNET + QUOTE]);
    }
}

/// A backend on this node's host answers a client of another node's port: its stack is told, but never of a node's address,
/// and not where the device splits.
pub(crate) fn too_big_from_a_backend_on_the_host<T: Bench>() {
    for (client, node, splits, told) in [
        ("172.31.0.2", "172.31.0.12", false, true),
        ("172.31.0.2", "172.31.0.12", true, false),
        ("172.31.0.12", "172.31.0.12", false, false),
    ] {
        let mut t = new::<T>();
        t.change(|tables| tables.nodes.get_mut(&2).unwrap().flags |= if splits { SPLITS } else { 0 });
        let there = format!("{client}:1 > 172.31.0.11:6443");
        let back = format!("172.31.0.11:6443 > {client}:1");
        let asked = tcp::<T>(&there, 1_000);
        assert_eq!(t.raw(From::Service(node), &asked).seen, Seen::Host, "{there}");
        t.raw(From::ToNic, &tcp::<T>(&back, OVERLAY)).gives(node2(VNI_SERVICE), &back);
        let large = tcp::<T>(&back, WIRE);
        let got = t.raw(From::ToNic, &large);
        if told {
            tells(&got, &large, "169.254.42.1", OVERLAY, [GATEWAY; 2]);
        } else {
            got.gives(node2(VNI_SERVICE), &back);
        }
    }
}

/// Many segments in one packet: each must fit, and not all of them together.
pub(crate) fn segments_are_measured<T: Bench>() {
    let mut t = new::<T>();
    let text = "10.244.1.2:1 > 10.244.2.2:80";
    let headers = if v6() { 60 } else { 40 };
    let packet = tcp::<T>(text, 3_000);
    for (payload, fits) in [(OVERLAY - headers, true), (OVERLAY - headers + 1, false)] {
        t.change(|node| node.gso_size = payload as u32);
        let got = t.raw(From::Pod(A), &packet);
        if fits {
            assert_eq!(got.seen, node2(VNI_POD));
        } else {
            tells(&got, &packet, "172.31.0.11", OVERLAY, TO_A);
        }
    }
}

pub(crate) fn what_may_be_split<T: Bench>() {
    let mut t = new::<T>();
    let text = "10.244.1.2:9 > 10.244.2.2:53";
    let (whole, parts) = (udp::<T>(text, WIRE), splittable(udp::<T>(text, WIRE)));
    if v6() {
        return; // No router ever splits its packets.
    }
    // Nobody splits it on this way.
    tells(&t.raw(From::Pod(A), &parts), &parts, "172.31.0.11", OVERLAY, TO_A);
    t.change(|node| node.nodes.get_mut(&2).unwrap().flags |= SPLITS);
    t.raw(From::Pod(A), &parts).gives(node2(VNI_POD), text);
    tells(&t.raw(From::Pod(A), &whole), &whole, "172.31.0.11", OVERLAY, TO_A);
}

/// Errors, and pieces that do not say whose they are.
pub(crate) fn what_is_never_answered<T: Bench>() {
    let mut t = new::<T>();
    let text = "10.244.2.2:9 > 10.244.1.2:53";
    t.udp(From::Overlay("172.31.0.12"), text);
    let kind = if v6() { 1 } else { 3 };
    let mut error = error_about(&Test::<T>::make("10.244.1.2:0 > 10.244.2.2:0", ICMP, kind), &udp::<T>(text, 1_400));
    error.resize(ETHERNET + WIRE, 0);
    let (at, length) = if v6() { (18, WIRE - 40) } else { (16, WIRE) };
    error[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    sum_header(&mut error, ETHERNET);
    resum(&mut error);
    t.raw(From::Pod(A), &error).drops(DropReason::TooBig);
    let make = Test::<T>::make("10.244.1.2:9 > 10.244.2.2:53", UDP, 0);
    let make = Make { extensions: if v6() { &[44] } else { &[] }, ..make };
    let mut first = long(&make, 1_304);
    let mut later = long(&make, WIRE);
    if v6() {
        (first[57], later[56]) = (1, 1);
    } else {
        (first[20], later[20], later[21]) = (0x20, 0, 0x60);
        sum_header(&mut first, ETHERNET);
        sum_header(&mut later, ETHERNET);
    }
    assert_eq!(t.raw(From::Pod(A), &first).seen, node2(VNI_POD));
    t.raw(From::Pod(A), &later).drops(DropReason::TooBig);
}

/// Packets go past a pod's device unless it has a queue, and a queue gives them to the device.
pub(crate) fn a_queue_takes_what_its_device_takes<T: Bench>() {
    let mut t = new::<T>();
    let (text, seen) = ("172.31.0.2:9 > 172.31.0.11:30080", "172.31.0.2:9 > 10.244.1.3:8080");
    let large = tcp::<T>(text, WIRE);
    t.raw(From::Nic, &large).gives(Seen::Pod(B), seen);
    t.change(|node| {
        let pod = node.pod.get_mut(&POD_B).unwrap();
        (pod.flags, pod.mtu) = (pod.flags | QUEUED, OVERLAY as u32);
    });
    tells(&t.raw(From::Nic, &large), &large, "172.31.0.11", OVERLAY, [POD_MAC, GATEWAY]);
    t.raw(From::Nic, &tcp::<T>(text, OVERLAY)).gives(Seen::Pod(B), seen);
}
