//! Packets of any length, as the readers see them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use abi::flow::Tuple;
use datapath::{
    Packet,
    parse::{Headers, TCP, parse, whole},
    sim::{Bytes, frame::Make},
};

/// Longer than the length field can say.
const JUMBO: usize = 70_000;

/// A TCP packet whose frame is filled up to `size` bytes, and whose header says this length.
#[track_caller]
fn check(src: &str, dst: &str, size: usize, length: u16, read: bool) {
    let addr = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
    let tuple = Tuple { src: addr(src), dst: addr(dst), sport: 1_u16.to_be(), dport: 80_u16.to_be() };
    let make = Make { tuple, proto: TCP, flags: 2, ttl: 64, link: [[2; 6]; 2], unsummed: false, extensions: &[] };
    let mut bytes = make.bytes();
    let at = if tuple.src.is_v4() { 16 } else { 18 };
    bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    bytes.resize(size, 0);
    let frame = Bytes { bytes: &bytes, ifindex: 1 };
    let (mut near, mut far) = (Packet::default(), Packet::default());
    let plain = parse(&frame, &mut near) == Ok(Headers::Plain);
    assert_eq!((plain, whole(&frame, &mut far).is_ok()), (read, read), "{size} bytes that say {length}");
    if read {
        assert_eq!((near, far.tuple), (far, tuple));
    }
}

/// The kernel leaves the length out where it will cut the packet into segments (BIG TCP).
#[test]
fn longer_than_a_header_can_say() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        check(src, dst, JUMBO, 0, true);
        check(src, dst, 1_000, 0, false);
        check(src, dst, JUMBO, 60_000, true);
    }
}

#[test]
fn shorter_than_the_transport_header() {
    check("10.0.0.1", "10.0.0.2", 100, 40, true);
    check("10.0.0.1", "10.0.0.2", 100, 39, false);
    check("fd00::1", "fd00::2", 100, 20, true);
    check("fd00::1", "fd00::2", 100, 19, false);
}
