//! Scenarios of packets in pieces.
use super::{HOST, node2};
use crate::{
    bench::{Bench, From, Got, Seen, Test, addr, v6},
    world::{A, B, NIC},
};
use abi::{DropReason, config::VNI_POD};
use datapath::{
    parse::{ETHERNET, UDP},
    sim::frame::{Make, layout, sum_header},
};

/// A fragment of a UDP packet with this identification: the first, or one from the middle whose bytes say nothing.
fn fragment<T: Bench>(text: &str, id: u8, first: bool) -> Vec<u8> {
    let make = Test::<T>::make(text, UDP, 0);
    let mut bytes = Make { extensions: if v6() { &[44] } else { &[] }, ..make }.bytes();
    let l4 = layout(&bytes, ETHERNET).l4;
    if v6() {
        (bytes[57], bytes[61]) = (1, id);
        if !first {
            bytes[56] = 1;
        }
    } else {
        (bytes[20], bytes[19]) = (0x20, id);
        if !first {
            bytes[21] = 32;
        }
        sum_header(&mut bytes, ETHERNET);
    }
    if !first {
        bytes[l4..].fill(0x77);
    }
    bytes
}

/// What came out goes there between these two, and its payload is as it was.
#[track_caller]
fn goes(got: &Got, seen: Seen, ends: [&str; 2]) {
    let layout = layout(&got.bytes, ETHERNET);
    let end = |text: &str| addr(text).bytes()[16 - layout.src.len()..].to_vec();
    let came = [got.bytes[layout.src.clone()].to_vec(), got.bytes[layout.dst.clone()].to_vec()];
    assert_eq!((got.seen, came), (seen, ends.map(end)));
    assert!(got.bytes[layout.l4..].iter().all(|byte| *byte == 0x77), "nothing of a middle part is rewritten");
    let mut header = got.bytes.clone();
    sum_header(&mut header, ETHERNET);
    assert_eq!(header, got.bytes, "the header's checksum");
}

pub(crate) fn fragments_follow_the_first<T: Bench>() {
    let mut t = Test::<T>::new();
    let early = DropReason::Fragment;
    let text = "10.244.1.2:9 > 10.96.0.14:53";
    t.raw(From::Pod(A), &fragment::<T>(text, 7, false)).drops(early);
    let first = t.raw(From::Pod(A), &fragment::<T>(text, 7, true));
    first.gives_unsummed(Seen::Pod(B), "10.244.1.2:9 > 10.244.1.3:5353");
    for _ in 0..2 {
        let later = t.raw(From::Pod(A), &fragment::<T>(text, 7, false));
        goes(&later, Seen::Pod(B), ["10.244.1.2", "10.244.1.3"]);
    }
    t.raw(From::Pod(A), &fragment::<T>(text, 8, false)).drops(early); // Another packet's.
    t.raw(From::Pod(B), &fragment::<T>(text, 7, false)).drops(early); // Nobody continues what another began.
    // The answer, in pieces, too.
    let back = "10.244.1.3:5353 > 10.244.1.2:9";
    t.raw(From::Pod(B), &fragment::<T>(back, 1, true)).gives_unsummed(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
    let later = t.raw(From::Pod(B), &fragment::<T>(back, 1, false));
    goes(&later, Seen::Pod(A), ["10.96.0.14", "10.244.1.2"]);
}

pub(crate) fn fragments_leave_the_node<T: Bench>() {
    let mut t = Test::<T>::new();
    let text = "10.244.1.2:9 > 10.244.2.2:53";
    t.raw(From::Pod(A), &fragment::<T>(text, 7, true)).gives_unsummed(node2(VNI_POD), text);
    goes(&t.raw(From::Pod(A), &fragment::<T>(text, 7, false)), node2(VNI_POD), ["10.244.1.2", "10.244.2.2"]);
    // Masqueraded, and back.
    let out = "10.244.1.2:9 > 172.31.0.2:53";
    let first = t.raw(From::Pod(A), &fragment::<T>(out, 8, true));
    let port = first.sport();
    first.gives_unsummed(Seen::Nic(NIC), "172.31.0.11:* > 172.31.0.2:53");
    goes(&t.raw(From::Pod(A), &fragment::<T>(out, 8, false)), Seen::Nic(NIC), ["172.31.0.11", "172.31.0.2"]);
    let back = format!("172.31.0.2:53 > 172.31.0.11:{port}");
    t.raw(From::Nic, &fragment::<T>(&back, 3, true)).gives_unsummed(Seen::Pod(A), "172.31.0.2:53 > 10.244.1.2:9");
    goes(&t.raw(From::Nic, &fragment::<T>(&back, 3, false)), Seen::Pod(A), ["172.31.0.2", "10.244.1.2"]);
    // Pieces of the host's own packets are the host's business.
    let host = "172.31.0.2:53 > 172.31.0.11:5000";
    assert_eq!(t.raw(From::Nic, &fragment::<T>(host, 9, false)).seen, Seen::Pass);
    t.raw(HOST, &fragment::<T>("172.31.0.11:9 > 10.244.1.2:53", 9, false)).drops(DropReason::Fragment);
}

/// A first fragment that policy or trust refuses opens no way for the later ones.
pub(crate) fn fragments_of_a_refused_packet<T: Bench>() {
    let mut t = Test::<T>::new();
    let text = "10.244.1.3:9 > 10.244.2.2:53";
    let bad = DropReason::SpoofedSource;
    t.raw(From::Pod(A), &fragment::<T>(text, 7, true)).drops(bad);
    t.raw(From::Pod(A), &fragment::<T>(text, 7, false)).drops(bad);
}
