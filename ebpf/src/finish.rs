//! Verdict → what the kernel does: applies the edits, counts, tells. The only exit of every program.
//!
//! A packet that goes on to where it was going is answered with `TC_ACT_UNSPEC`, never `TC_ACT_OK`: then the programs and
//! filters that others have on the device behind ours see it too. The end of the line lets it pass.
use crate::{
    edit::{Link, edit},
    encapsulate::{self, TTL},
    kernel::setting,
    maps::COUNTERS,
    next_hop::hand_over,
    packet::Skb,
    tell,
};
use abi::{
    DropReason,
    config::{FEATURE_ENCAPSULATE, FEATURE_EVENTS, FEATURE_NATIVE, FEATURE_TRACE, MARK_SEEN, OVERLAY_SOURCE_MAC},
    event::{HOOKS, Hook},
    flow::{NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_POD},
};
use aya_ebpf::{
    bindings::{BPF_F_INGRESS, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_tunnel_key},
    helpers::generated::{
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type, bpf_skb_set_tunnel_key,
    },
};
use core::mem::{MaybeUninit, size_of};
use datapath::{Frame, Outcome, Packet, State};

/// `skb->pkt_type` of packets for this host.
const PACKET_HOST: u32 = 0;

/// Carries out a verdict.
#[inline(always)]
pub fn finish(skb: &Skb, hook: u32, packet: &Packet, outcome: &Outcome) -> i32 {
    trace(skb, outcome);
    if rewrite(skb, packet, outcome).is_none() {
        return discard(skb, hook, packet, DropReason::EditFailed, None);
    }
    count(0, hook, packet.len);
    match outcome.next {
        NEXT_POD => to_pod(skb, hook, outcome),
        NEXT_HOST => {
            skb.set_mark(0);
            // SAFETY: no pointers.
            unsafe { bpf_redirect(setting(|s| &s.host_ifindex), u64::from(BPF_F_INGRESS)) as i32 }
        }
        NEXT_NODE => to_node(skb, hook, packet, outcome),
        NEXT_NIC => to_wire(skb, outcome),
        _ => TC_ACT_UNSPEC,
    }
}

/// Out by the NIC, to the next hop that the kernel finds.
#[inline(always)]
fn out(skb: &Skb, ifindex: u32) -> i32 {
    skb.set_mark(MARK_SEEN);
    // SAFETY: no next hop is given, so the kernel finds it.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 }
}

/// To another node: with an outer header of our own straight to the NIC, or by the device that writes one.
#[inline(always)]
fn to_node(skb: &Skb, hook: u32, packet: &Packet, outcome: &Outcome) -> i32 {
    let by_program = setting(|s| &s.features) & FEATURE_ENCAPSULATE != 0 && !outcome.queued;
    if by_program && encapsulate::write(skb, packet, hook, outcome) {
        let nic = setting(|s| &s.nic_ifindex);
        return if outcome.near { hand_over(skb, nic, &outcome.tunnel) } else { out(skb, nic) };
    }
    if tunnel_key(skb, outcome.tunnel, outcome.vni).is_none() {
        return discard(skb, hook, packet, DropReason::EditFailed, None);
    }
    skb.set_mark(MARK_SEEN);
    // SAFETY: no pointers.
    unsafe { bpf_redirect(setting(|s| &s.overlay_ifindex), 0) as i32 }
}

/// Lets a packet pass that is none of ours.
#[inline(always)]
pub fn pass(skb: &Skb, hook: Hook) -> i32 {
    count(0, hook as u32, skb.len());
    TC_ACT_UNSPEC
}

/// The edits and the link addresses of the way out. `None` if the kernel refused one.
#[inline(always)]
pub fn rewrite(skb: &Skb, packet: &Packet, outcome: &Outcome) -> Option<()> {
    let gateway = setting(|s| &s.gateway_mac);
    let link = match outcome.next {
        NEXT_POD => Some(Link { to: outcome.mac, from: gateway }),
        NEXT_HOST => Some(Link { to: gateway, from: gateway }),
        NEXT_NODE => Some(Link { to: gateway, from: OVERLAY_SOURCE_MAC }),
        _ => None,
    };
    edit(skb, packet, &outcome.edits, link)
}

/// Into the pod. Only programs on the way in may go straight to the peer, and only if that goes round no queue; the others
/// send to the host's end.
#[inline(always)]
fn to_pod(skb: &Skb, hook: u32, outcome: &Outcome) -> i32 {
    let ifindex = outcome.ifindex;
    if outcome.queued || hook == Hook::ToPod as u32 || hook == Hook::ToNetdev as u32 {
        if hook == Hook::ToPod as u32 && ifindex == skb.ifindex() {
            skb.set_mark(0);
            return TC_ACT_UNSPEC;
        }
        skb.set_mark(MARK_SEEN);
        // SAFETY: no pointers.
        return unsafe { bpf_redirect(ifindex, 0) as i32 };
    }
    skb.set_mark(0);
    // SAFETY: no pointers beside the context. Before 6.15 the peer does not look at the new link address, and would
    // take the packet for somebody else's.
    unsafe {
        if (*skb.skb()).pkt_type != PACKET_HOST {
            bpf_skb_change_type(skb.skb(), PACKET_HOST);
        }
        bpf_redirect_peer(ifindex, 0) as i32
    }
}

/// Out by the NIC, to the next hop of the outcome if it has one.
#[inline(always)]
fn to_wire(skb: &Skb, outcome: &Outcome) -> i32 {
    if setting(|s| &s.features) & FEATURE_NATIVE == 0 || outcome.tunnel == abi::Addr::ANY {
        return out(skb, outcome.ifindex);
    }
    hand_over(skb, outcome.ifindex, &outcome.tunnel)
}

/// What the device writes the outer header from.
#[inline(always)]
fn tunnel_key(skb: &Skb, tunnel: abi::Addr, vni: u32) -> Option<()> {
    // SAFETY: all zeros is a valid value of this C struct.
    let mut key: bpf_tunnel_key = unsafe { MaybeUninit::zeroed().assume_init() };
    key.tunnel_id = vni;
    key.tunnel_ttl = TTL;
    // VXLAN over IPv4 needs no outer checksum (RFC 7348). IPv6 wants one: the device's socket refuses packets without.
    let flags = if tunnel.is_v4() {
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(tunnel.v4_word());
        key.__bindgen_anon_3.local_ipv4 = u32::from_be(setting(|s| &s.host4).v4_word());
        BPF_F_ZERO_CSUM_TX
    } else {
        key.__bindgen_anon_1.remote_ipv6 = tunnel.0;
        key.__bindgen_anon_3.local_ipv6 = setting(|s| &s.host6).0;
        BPF_F_TUNINFO_IPV6
    };
    let size = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: the struct lives on the stack and has its own size.
    let answer = unsafe { bpf_skb_set_tunnel_key(skb.skb(), &raw mut key, size, u64::from(flags)) };
    (answer == 0).then_some(())
}

/// Drops the packet: counts it, and tells of it once.
#[inline(always)]
pub fn discard(skb: &Skb, hook: u32, packet: &Packet, reason: DropReason, state: Option<&State>) -> i32 {
    count(reason as u8, hook, skb.len());
    if setting(|s| &s.features) & FEATURE_TRACE != 0 {
        skb.set_cb([u32::from(reason as u8) | 0x100, 0, 0, 0, 0]);
    }
    if setting(|s| &s.features) & FEATURE_EVENTS != 0 && !matches!(reason, DropReason::LinkChatter) {
        tell::drop(skb, hook, packet, reason, state);
    }
    TC_ACT_SHOT
}

/// Counts a packet by hook: of a drop reason, of an [`abi::event::Kept`], or as passed (0).
#[inline(always)]
pub fn count(reason: u8, hook: u32, bytes: u32) {
    if let Some(row) = COUNTERS.get_ptr_mut(u32::from(reason) * HOOKS + hook) {
        // SAFETY: this CPU's own row.
        unsafe {
            (*row).packets += 1;
            (*row).bytes += u64::from(bytes);
        }
    }
}

/// For tests under BPF_PROG_TEST_RUN, which shows the control block but not where a redirect goes.
#[inline(always)]
fn trace(skb: &Skb, outcome: &Outcome) {
    if setting(|s| &s.features) & FEATURE_TRACE != 0 {
        let next = u32::from(outcome.next) | 0x200;
        if outcome.next == NEXT_NODE || (outcome.next == NEXT_NIC && outcome.tunnel != abi::Addr::ANY) {
            let [a, b, c, d] = outcome.tunnel.0;
            skb.set_cb([next | outcome.vni << 16, a, b, c, d]);
        } else {
            skb.set_cb([next, outcome.ifindex, 0, 0, 0]);
        }
    }
}
