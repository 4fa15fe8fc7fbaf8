//! Scenarios of what the families differ in: the underlay's own, neighbours, extension headers.
use crate::{
    bench::{Bench, From, SYN, Seen, Test, addr, six, v6},
    world::{A, B, GATEWAY, POD_A, mac},
};
use abi::{Addr, DropReason, config::VNI_POD, flow::Tuple};
use datapath::{
    parse::{ETHERNET, ICMPV6, TCP, UDP},
    sim::frame::{Make, layout, resum, sums_right},
};

/// The overlay's outer header need not be of the family that it carries.
pub(crate) fn overlay_over_either_family<T: Bench>() {
    let mut t = Test::<T>::new();
    let tunnel = if v6() { Addr::from_octets([172, 31, 0, 12]) } else { six(Addr::from_octets([172, 31, 0, 12])) };
    let outer: &'static str = Box::leak(tunnel.to_string().into_boxed_str());
    t.change(|node| {
        let settings = &mut node.settings;
        let own = Addr::from_octets([172, 31, 0, 11]);
        (settings.host4, settings.host6) = (own, six(own));
        node.nodes.get_mut(&2).unwrap().tunnel = tunnel;
    });
    let (there, back) = ("10.244.1.2:1 > 10.244.2.2:80", "10.244.2.2:80 > 10.244.1.2:1");
    t.connect(
        (From::Pod(A), there, Seen::Encap(tunnel, VNI_POD), there),
        (From::Plain(outer), back, Seen::Pod(A), back),
    );
    t.tcp(From::Overlay("172.31.0.12"), back, SYN).drops(DropReason::OverlaySource);
}

/// A neighbour solicitation of pod A, with the option that names its link address or without.
fn solicitation(source: Addr, target: Addr, option: bool) -> Vec<u8> {
    let tuple = Tuple { src: source, dst: target, ..Tuple::default() };
    let link = [GATEWAY, mac(A)];
    let mut bytes = Make { tuple, proto: ICMPV6, flags: 135, ttl: 255, link, unsummed: false, extensions: &[] }.bytes();
    bytes.truncate(62);
    bytes.extend_from_slice(&target.bytes());
    if option {
        bytes.extend_from_slice(&[1, 1]);
        bytes.extend_from_slice(&mac(A));
    }
    bytes[19] = (bytes.len() - 54) as u8;
    resum(&mut bytes);
    bytes
}

pub(crate) fn solicitations_are_answered<T: Bench>() {
    let mut t = Test::<T>::new();
    let pod = addr("10.244.1.2");
    for target in [addr("10.244.1.3"), addr("fe80::1"), addr("2001:db8::1")] {
        for option in [true, false] {
            let got = t.raw(From::Pod(A), &solicitation(pod, target, option));
            assert_eq!(got.seen, Seen::Reply);
            assert!(sums_right(&got.bytes), "{:02x?}", got.bytes);
            let layout = layout(&got.bytes, ETHERNET);
            assert_eq!((&got.bytes[..6], &got.bytes[6..12]), (&mac(A)[..], &GATEWAY[..]));
            assert_eq!((&got.bytes[layout.src], &got.bytes[layout.dst]), (&target.bytes()[..], &pod.bytes()[..]));
            assert_eq!((got.bytes[54], got.bytes[58]), (136, 0xe0), "an advertisement: router, solicited, override");
            assert_eq!(got.bytes[62..78], target.bytes());
            assert_eq!(got.bytes.len(), if option { 86 } else { 78 });
            assert!(!option || (got.bytes[78..80] == [2, 1] && got.bytes[80..86] == GATEWAY));
        }
    }
}

pub(crate) fn chatter_is_dropped<T: Bench>() {
    let mut t = Test::<T>::new();
    let (pod, own) = (addr("10.244.1.2"), addr("fe80::9"));
    // A search for doubles gets no answer, or the pod would give up its address.
    t.raw(From::Pod(A), &solicitation(Addr::ANY, pod, false)).drops(DropReason::LinkChatter);
    t.raw(From::Host, &solicitation(own, pod, true)).drops(DropReason::LinkChatter);
    let mut far = solicitation(pod, own, true);
    far[21] = 254; // It came from beyond a router.
    t.raw(From::Pod(A), &far).drops(DropReason::LinkChatter);
    for kind in [130, 131, 132, 133, 136, 143] {
        let mut bytes = solicitation(own, addr("ff02::2"), false);
        bytes[54] = kind;
        resum(&mut bytes);
        t.raw(From::Pod(A), &bytes).drops(DropReason::LinkChatter);
        assert_eq!(t.raw(From::Nic, &bytes).seen, Seen::Pass, "the host's business");
    }
}

pub(crate) fn extension_headers<T: Bench>() {
    let mut t = Test::<T>::new();
    let text = "10.244.1.2:9 > 10.96.0.14:53";
    let with = |extensions: &'static [u8]| Make { extensions, ..Test::<T>::make(text, UDP, 0) };
    for extensions in [&[0][..], &[60], &[43], &[44], &[0, 60, 43, 60], &[0, 60, 43, 44, 60]] {
        t.send(From::Pod(A), &with(extensions)).gives(Seen::Pod(B), "10.244.1.2:9 > 10.244.1.3:5353");
    }
    t.send(From::Pod(A), &with(&[60; 7])).drops(DropReason::UnsupportedProtocol);
    // A later fragment, and a packet that is to go on elsewhere.
    let mut fragment = with(&[44]).bytes();
    fragment[56] = 1;
    t.raw(From::Pod(A), &fragment).drops(DropReason::Fragment);
    let mut routed = with(&[43]).bytes();
    routed[57] = 1;
    t.raw(From::Pod(A), &routed).drops(DropReason::UnsupportedProtocol);
    let mut long = with(&[60]).bytes();
    long[55] = 200;
    t.raw(From::Pod(A), &long).drops(DropReason::Malformed);
}

pub(crate) fn pods_are_no_routers<T: Bench>() {
    let mut t = Test::<T>::new();
    for kind in [134, 137] {
        let mut bytes = solicitation(addr("fe80::9"), addr("ff02::1"), false);
        bytes[54] = kind;
        resum(&mut bytes);
        t.raw(From::Pod(A), &bytes).drops(DropReason::RogueRouter);
        assert_eq!(t.raw(From::Nic, &bytes).seen, Seen::Pass, "the host's business");
    }
}

/// An IPv6 header with mapped addresses is not IPv4 traffic.
pub(crate) fn mapped_addresses<T: Bench>() {
    let mut t = Test::<T>::new();
    let make = Test::<T>::make("10.244.1.2:1 > 10.244.1.3:80", TCP, SYN);
    let mapped = Addr::from_octets([10, 244, 1, 2]).bytes();
    for at in [22, 38] {
        let mut bytes = make.bytes();
        bytes[at..at + 16].copy_from_slice(&mapped);
        t.raw(From::Pod(A), &bytes).drops(DropReason::Malformed);
    }
    t.change(|node| assert_eq!(node.pod[&POD_A].addr6, addr("10.244.1.2")));
}

/// An error finds its flow past extension headers, its own and the quoted packet's.
pub(crate) fn errors_past_extension_headers<T: Bench>() {
    let mut t = Test::<T>::new();
    t.udp(From::Pod(A), "10.244.1.2:9 > 10.96.0.14:53");
    let quoted = |text| Make { extensions: &[60, 0], ..Test::<T>::make(text, UDP, 0) }.bytes();
    for kind in [1, 2, 3, 4] {
        let make = Test::<T>::make("10.244.1.3:0 > 10.244.1.2:0", datapath::parse::ICMP, kind);
        let error = super::error_about(&Make { extensions: &[60], ..make }, &quoted("10.244.1.2:9 > 10.244.1.3:5353"));
        let got = t.raw(From::Pod(B), &error);
        assert_eq!(got.seen, Seen::Pod(A));
        assert!(sums_right(&got.bytes), "{:02x?}", got.bytes);
        let expected = quoted("10.244.1.2:9 > 10.96.0.14:53");
        let at = layout(&got.bytes, ETHERNET).l4 + 8;
        let ports = layout(&expected, ETHERNET).l4 + 4;
        assert_eq!(got.bytes[at..at + ports - 14], expected[14..ports], "quoted headers and ports");
    }
}
