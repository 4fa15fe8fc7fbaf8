//! Sends back what `datapath::too_big` made of a packet that does not fit: by the device that it came by, to the link
//! address that it came from; what the host was sending out by the NIC is answered by `weft_host`.
//!
//! The packet is cut to what is quoted (that also makes one packet of many segments) and the message's headers go before it.
//! A checksum that is yet to be completed stays so, since no helper changes that. Where a stack of this machine gets the
//! message it does not ask for it, and a device that completes it changes nothing: `datapath::too_big::fixed`.
use crate::{kernel::setting, packet::Skb};
use abi::{
    config::{FEATURE_TRACE, MARK_SEEN},
    event::Hook,
};
use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::generated::{
        bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
};
use datapath::{
    Frame,
    parse::ETHERNET,
    too_big::{Message, QUOTE},
};

/// Rewrites the packet and sends it. If the kernel refuses, the packet is dropped, which it is anyway.
#[inline(always)]
pub fn send(skb: &Skb, hook: u32, message: &Message) -> i32 {
    let mut link = [0_u8; 12];
    // SAFETY: the helpers check the packet's bounds; each half of the array is six bytes on the stack: the two addresses
    // change places.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.skb().cast(), 6, (&raw mut link).cast(), 6) != 0
            || bpf_skb_load_bytes(skb.skb().cast(), 0, (&raw mut link).cast::<u8>().add(6).cast(), 6) != 0
            || bpf_skb_change_tail(skb.skb(), (ETHERNET + QUOTE) as u32, 0) != 0
    };
    if failed || sum(skb, message).is_none() || headers(skb, message).is_none() {
        return TC_ACT_SHOT;
    }
    let out = hook == Hook::ToNetdev as u32;
    if out {
        let [a, b, c, d, e, f] = setting(|s| &s.gateway_mac);
        link = [a, b, c, d, e, f, a, b, c, d, e, f];
    }
    // SAFETY: as above, for twelve bytes.
    if unsafe { bpf_skb_store_bytes(skb.skb().cast(), 0, link.as_ptr().cast(), 12, 0) } != 0 {
        return TC_ACT_SHOT;
    }
    if setting(|s| &s.features) & FEATURE_TRACE != 0 {
        skb.set_cb([0x300, 0, 0, 0, 0]);
    }
    skb.set_mark(if out { 0 } else { MARK_SEEN });
    let (to, flags) = if out { (setting(|s| &s.host_ifindex), u64::from(BPF_F_INGRESS)) } else { (skb.ifindex(), 0) };
    // SAFETY: no pointers.
    unsafe { bpf_redirect(to, flags) as i32 }
}

/// The quoted checksum, where it is another now.
#[inline(always)]
fn sum(skb: &Skb, message: &Message) -> Option<()> {
    if message.sum_at == 0 {
        return Some(());
    }
    let from = (&raw const message.sum).cast();
    // SAFETY: the helper checks the packet's bounds; the source is two bytes on the stack.
    let answer = unsafe { bpf_skb_store_bytes(skb.skb().cast(), message.sum_at, from, 2, 0) };
    (answer == 0).then_some(())
}

/// Room behind the link header, and the message's headers in it; a constant length for each family.
#[inline(always)]
fn headers(skb: &Skb, message: &Message) -> Option<()> {
    let words = message.words.as_ptr().cast();
    let mode = BPF_ADJ_ROOM_MAC;
    // SAFETY: the helpers check the packet's bounds; the words are 48 bytes on the stack.
    let done = unsafe {
        if message.len == 48 {
            bpf_skb_adjust_room(skb.skb(), 48, mode, 0) == 0
                && bpf_skb_store_bytes(skb.skb().cast(), ETHERNET as u32, words, 48, 0) == 0
        } else {
            bpf_skb_adjust_room(skb.skb(), 28, mode, 0) == 0
                && bpf_skb_store_bytes(skb.skb().cast(), ETHERNET as u32, words, 28, 0) == 0
        }
    };
    done.then_some(())
}
