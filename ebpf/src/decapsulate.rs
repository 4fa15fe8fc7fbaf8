//! The overlay's outer header, taken off by the program (back end `program`): tail-called by `from_netdev` before anything else.
//!
//! Only what the VXLAN device would take off without another thought. Everything else on the overlay's port goes on to that device
//! as it came: another node's address, an unknown VNI, congestion to be handed down, a family change that the kernel cannot make
//! (before 6.3). Whose packet it is `from_overlay` asks in either case.
use crate::{
    encapsulate::{BEHIND, CONGESTION, HAS_VNI, IPV4, IPV6},
    finish::pass,
    hook::judge,
    kernel::setting,
    packet::Skb,
};
use abi::{
    Addr,
    config::{VNI_POD, VNI_SERVICE},
    event::Hook,
    flow::Tuple,
};
use aya_ebpf::{
    bindings::{
        BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
        BPF_F_ADJ_ROOM_NO_CSUM_RESET, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_csum_level, bpf_skb_adjust_room, bpf_skb_pull_data},
    macros::classifier,
    programs::TcContext,
};
use datapath::{
    Frame, Kernel,
    kernel::Tunnel,
    parse::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, UDP},
};

/// A packet to the overlay's port, whole and without options. `from_netdev` would let it pass.
#[inline(always)]
pub fn is_overlay(skb: &Skb) -> bool {
    let port = Some(setting(|s| &s.overlay_port));
    match skb.half(12) {
        Some(ETHERTYPE_IPV4) => {
            skb.half(36) == port
                && skb.byte(23) == Some(UDP)
                && skb.byte(14) == Some(0x45)
                && skb.half(20).is_some_and(|fragment| fragment & 0x3fff_u16.to_be() == 0)
        }
        Some(ETHERTYPE_IPV6) => skb.half(56) == port && skb.byte(20) == Some(UDP),
        _ => false,
    }
}

/// What is read of an outer header; all zeros to begin with.
#[derive(Default)]
struct Outer {
    source: Addr,
    vni: u32,
    /// Of the inner packet.
    ethertype: u16,
}

#[classifier]
pub fn decapsulate(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mut outer = Outer::default();
    let stripped = match skb.half(12) {
        Some(ETHERTYPE_IPV4) => read::<IPV4>(&skb, &mut outer) && strip::<IPV4>(&skb, outer.ethertype),
        Some(ETHERTYPE_IPV6) => read::<IPV6>(&skb, &mut outer) && strip::<IPV6>(&skb, outer.ethertype),
        _ => false,
    };
    if !stripped {
        return pass(&skb, Hook::FromNetdev);
    }
    let skb = Skb::new(&context);
    judge(&context, &skb, &Stripped { skb: &skb, outer: &outer }, Hook::FromOverlay)
}

/// Whether it is for us to take off, and what it says.
#[inline(always)]
fn read<const IP: usize>(skb: &Skb, outer: &mut Outer) -> bool {
    let inner = ETHERNET + IP + BEHIND;
    if skb.byte(inner - 1).is_none() {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_pull_data(skb.skb(), inner as u32) };
    }
    let (Some(ethertype), Some(vni), Some(first), Some(second)) =
        (skb.half(inner - 2), skb.word(inner - 18), skb.word(inner - 22), skb.byte(ETHERNET + 1))
    else {
        return false;
    };
    outer.ethertype = ethertype;
    outer.vni = u32::from_be(vni) >> 8;
    let ecn = if IP == IPV4 { second } else { second >> 4 } & CONGESTION;
    let known = outer.vni == VNI_POD || outer.vni == VNI_SERVICE;
    if first != HAS_VNI || !known || ecn == CONGESTION {
        return false;
    }
    // The kernel goes on to take a large packet for a tunnel's. Pods do not mind; a NIC that it leaves by would.
    if outer.vni == VNI_SERVICE && skb.gso_size() != 0 {
        return false;
    }
    (ethertype == ETHERTYPE_IPV4 || ethertype == ETHERTYPE_IPV6) && addresses::<IP>(skb, outer)
}

/// From somebody to this node's own tunnel address.
#[inline(always)]
fn addresses<const IP: usize>(skb: &Skb, outer: &mut Outer) -> bool {
    if IP == IPV4 {
        let (Some(src), Some(dst)) = (skb.word(26), skb.word(30)) else {
            return false;
        };
        outer.source = Addr::v4(src);
        return dst == setting(|s| &s.host4).v4_word();
    }
    let (Some(a), Some(b), Some(c), Some(d)) = (skb.word(22), skb.word(26), skb.word(30), skb.word(34)) else {
        return false;
    };
    let (Some(e), Some(f), Some(g), Some(h)) = (skb.word(38), skb.word(42), skb.word(46), skb.word(50)) else {
        return false;
    };
    outer.source = Addr([a, b, c, d]);
    Addr([e, f, g, h]) == setting(|s| &s.host6)
}

/// Takes it off: what is left has the outer link header, with the inner packet's type. False: nothing has changed.
#[inline(always)]
fn strip<const IP: usize>(skb: &Skb, ethertype: u16) -> bool {
    let same = (ethertype == ETHERTYPE_IPV4) == (IP == IPV4);
    let family = match (same, IP == IPV4) {
        (true, _) => 0,
        (_, true) => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
        _ => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
    };
    let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET | family);
    // SAFETY: the context is the program's own.
    if unsafe { bpf_skb_adjust_room(skb.skb(), -((IP + BEHIND) as i32), BPF_ADJ_ROOM_MAC, flags) } != 0 {
        return false;
    }
    // SAFETY: as above. What the NIC verified was the outer checksum first; it fails where it verified none, which is right.
    unsafe { bpf_csum_level(skb.skb(), u64::from(BPF_CSUM_LEVEL_DEC)) };
    if let Some(field) = skb.at::<u16>(12)
        && !same
    {
        // SAFETY: two bytes in bounds.
        unsafe { *field = ethertype };
    }
    true
}

/// The kernel, for a packet whose outer header it has not seen.
struct Stripped<'a> {
    skb: &'a Skb,
    outer: &'a Outer,
}

impl Kernel for Stripped<'_> {
    #[inline(always)]
    fn now(&self) -> u64 {
        self.skb.now()
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        self.skb.random()
    }

    #[inline(always)]
    fn fib(&self, src: Addr, dst: Addr) -> Option<u32> {
        self.skb.fib(src, dst)
    }

    #[inline(always)]
    fn sender(&self) -> [u8; 6] {
        self.skb.sender()
    }

    #[inline(always)]
    fn tunnel(&self) -> Option<Tunnel> {
        Some(Tunnel { source: self.outer.source, vni: self.outer.vni })
    }

    #[inline(always)]
    fn socket_takes(&self, tuple: &Tuple, proto: u8) -> bool {
        self.skb.socket_takes(tuple, proto)
    }
}
