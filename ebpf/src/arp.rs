//! Answers a pod's ARP request or neighbour solicitation in place: whatever it asks for is at the gateway's address.
use crate::{kernel::setting, packet::Skb};
use abi::config::{FEATURE_TRACE, MARK_SEEN};
use aya_ebpf::{
    bindings::TC_ACT_SHOT,
    helpers::generated::{bpf_redirect, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use datapath::{
    Frame,
    arp::Request,
    neighbour::{Advertisement, LENGTH},
};

/// Sends the answer back to the pod; `to_pod` lets it pass by its mark.
#[inline(always)]
pub fn answer(skb: &Skb, request: &Request) -> i32 {
    let [a, b, c, d, e, f] = setting(|s| &s.gateway_mac);
    let mut pod = [0_u8; 6];
    // SAFETY: the helper checks the packet's bounds; the target is six bytes on the stack.
    if unsafe { bpf_skb_load_bytes(skb.skb().cast(), 22, (&raw mut pod).cast(), 6) } != 0 {
        return TC_ACT_SHOT;
    }
    let link = link(pod);
    let (target, sender) = (request.target.to_ne_bytes(), request.sender.to_ne_bytes());
    // RFC 826: link header, then operation 2, and the two ends with the gateway as sender.
    let body = [
        0, 2, a, b, c, d, e, f, target[0], target[1], target[2], target[3], pod[0], pod[1], pod[2], pod[3], pod[4],
        pod[5], sender[0], sender[1], sender[2], sender[3],
    ];
    // SAFETY: as above, for twelve and twenty-two bytes.
    let failed = unsafe {
        bpf_skb_store_bytes(skb.skb().cast(), 0, link.as_ptr().cast(), 12, 0) != 0
            || bpf_skb_store_bytes(skb.skb().cast(), 20, body.as_ptr().cast(), 22, 0) != 0
    };
    if failed {
        return TC_ACT_SHOT;
    }
    back(skb)
}

/// The same for IPv6: the packet keeps its length.
#[inline(always)]
pub fn advertise(skb: &Skb, advertisement: &Advertisement) -> i32 {
    let mut pod = [0_u8; 6];
    // SAFETY: the helper checks the packet's bounds; the target is six bytes on the stack.
    if unsafe { bpf_skb_load_bytes(skb.skb().cast(), 6, (&raw mut pod).cast(), 6) } != 0 {
        return TC_ACT_SHOT;
    }
    let link = link(pod);
    let words = advertisement.words.as_ptr().cast();
    // SAFETY: as above, for the link header and for one of the two lengths that an answer has, each a constant.
    let failed = unsafe {
        bpf_skb_store_bytes(skb.skb().cast(), 0, link.as_ptr().cast(), 12, 0) != 0
            || if advertisement.len as usize >= 14 + LENGTH {
                bpf_skb_store_bytes(skb.skb().cast(), 14, words, LENGTH as u32, 0) != 0
            } else {
                bpf_skb_store_bytes(skb.skb().cast(), 14, words, LENGTH as u32 - 8, 0) != 0
            }
    };
    if failed { TC_ACT_SHOT } else { back(skb) }
}

/// The link addresses of an answer to the pod.
#[inline(always)]
fn link(pod: [u8; 6]) -> [u8; 12] {
    let [a, b, c, d, e, f] = setting(|s| &s.gateway_mac);
    [pod[0], pod[1], pod[2], pod[3], pod[4], pod[5], a, b, c, d, e, f]
}

/// Back by the device that it came by.
#[inline(always)]
fn back(skb: &Skb) -> i32 {
    if setting(|s| &s.features) & FEATURE_TRACE != 0 {
        skb.set_cb([0x300, 0, 0, 0, 0]);
    }
    skb.set_mark(MARK_SEEN);
    // SAFETY: no pointers.
    unsafe { bpf_redirect(skb.ifindex(), 0) as i32 }
}
