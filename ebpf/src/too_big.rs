//! Sends back what `datapath::too_big` made of a packet that does not fit: by the device that it came by, to the link
//! address that it came from.
//!
//! The packet is cut to what is quoted (that also makes one packet of many segments) and the message's headers go before it.
//! A checksum that is yet to be completed stays so: such a packet came from a stack on this machine and goes back to it,
//! and that stack does not ask for it.
use crate::{kernel::setting, packet::Skb};
use abi::config::{FEATURE_TRACE, MARK_SEEN};
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
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
pub fn send(skb: &Skb, message: &Message) -> i32 {
    let mut link = [0_u8; 12];
    // SAFETY: the helpers check the packet's bounds; each half of the array is six bytes on the stack: the two addresses
    // change places.
    let failed = unsafe {
        bpf_skb_load_bytes(skb.skb().cast(), 6, (&raw mut link).cast(), 6) != 0
            || bpf_skb_load_bytes(skb.skb().cast(), 0, (&raw mut link).cast::<u8>().add(6).cast(), 6) != 0
            || bpf_skb_change_tail(skb.skb(), (ETHERNET + QUOTE) as u32, 0) != 0
    };
    if failed || headers(skb, message).is_none() {
        return TC_ACT_SHOT;
    }
    // SAFETY: as above, for twelve bytes.
    if unsafe { bpf_skb_store_bytes(skb.skb().cast(), 0, link.as_ptr().cast(), 12, 0) } != 0 {
        return TC_ACT_SHOT;
    }
    if setting(|s| &s.features) & FEATURE_TRACE != 0 {
        skb.set_cb([0x300, 0, 0, 0, 0]);
    }
    skb.set_mark(MARK_SEEN);
    // SAFETY: no pointers.
    unsafe { bpf_redirect(skb.ifindex(), 0) as i32 }
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
