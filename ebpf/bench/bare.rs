//! For `bench` only, never shipped: the least that an eBPF pod network can do. New link addresses and a redirect by the
//! last byte of the destination; no conntrack, no policy, no services, no checks. What Weft is compared with.
#![no_std]
#![no_main]

#[path = "../src/object.rs"]
mod object;
mod way;

use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::{bpf_redirect, bpf_redirect_peer, bpf_skb_set_tunnel_key},
    macros::{classifier, map},
    maps::Array,
    programs::TcContext,
};
use core::mem::{MaybeUninit, size_of};
use way::{DEVICE, PEER, TUNNEL, WAYS, Way};

/// By the last byte of the destination.
#[map]
static BARE: Array<Way> = Array::with_max_entries(WAYS, 0);

/// At every ingress: of the pods' host ends, the NIC and the VXLAN device.
#[classifier]
pub fn bare(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    // SAFETY: the packet's bounds are checked before its bytes are touched; the row is there as long as the map.
    unsafe {
        let (start, end) = ((*skb).data as usize, (*skb).data_end as usize);
        if start + 34 > end || *((start + 12) as *const u16) != 0x0800_u16.to_be() {
            return TC_ACT_OK;
        }
        let last = *((start + 33) as *const u8);
        let Some(way) = BARE.get(u32::from(last)) else {
            return TC_ACT_SHOT;
        };
        let link = start as *mut u16;
        for index in 0..3 {
            *link.add(index) = way.to[index];
            *link.add(index + 3) = way.from[index];
        }
        match way.kind {
            PEER => bpf_redirect_peer(way.ifindex, 0) as i32,
            TUNNEL => {
                let mut key: bpf_tunnel_key = MaybeUninit::zeroed().assume_init();
                key.tunnel_id = 1;
                key.tunnel_ttl = 64;
                key.__bindgen_anon_1.remote_ipv4 = way.remote;
                let size = size_of::<bpf_tunnel_key>() as u32;
                if bpf_skb_set_tunnel_key(skb, &raw mut key, size, u64::from(BPF_F_ZERO_CSUM_TX)) != 0 {
                    return TC_ACT_SHOT;
                }
                bpf_redirect(way.ifindex, 0) as i32
            }
            DEVICE => bpf_redirect(way.ifindex, 0) as i32,
            _ => TC_ACT_SHOT,
        }
    }
}
