//! The overlay's outer header, taken off by the program (back end `program`): tail-called by `from_netdev` before anything else.
//!
//! Only what the VXLAN device would take off without another thought. Everything else on the overlay's port goes on to that device
//! as it came: another node's address, an unknown VNI, congestion to be handed down, a family change that the kernel cannot make
//! (before 6.3). Whose packet it is `from_overlay` asks in either case.
use crate::{
    encapsulate::{BEHIND, CONGESTION, HAS_VNI, IPV4, IPV6, header},
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
    Frame, Kernel, Packet,
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
    if header::<IP>(skb).is_none() {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_pull_data(skb.skb(), (ETHERNET + IP + BEHIND) as u32) };
    }
    // One check of the bounds for all fields: of several, the compiler makes one look at what may be no packet at all.
    let Some(header) = header::<IP>(skb) else {
        return false;
    };
    // SAFETY: everything read here is within `IP + BEHIND` bytes, which are in bounds.
    unsafe {
        let (shim, to) = (header.add(IP / 4), header.add(if IP == IPV4 { 4 } else { 6 }));
        outer.vni = u32::from_be(*shim.add(3)) >> 8;
        outer.ethertype = *shim.add(7).cast::<u16>();
        let second = *header.cast::<u8>().add(1);
        let ecn = if IP == IPV4 { second } else { second >> 4 } & CONGESTION;
        let known = outer.vni == VNI_POD || outer.vni == VNI_SERVICE;
        if *shim.add(2) != HAS_VNI || !known || ecn == CONGESTION {
            return false;
        }
        // The kernel goes on to take a large packet for a tunnel's. Pods do not mind; a NIC that it leaves by would.
        if outer.vni == VNI_SERVICE && skb.gso_size() != 0 {
            return false;
        }
        if outer.ethertype != ETHERTYPE_IPV4 && outer.ethertype != ETHERTYPE_IPV6 {
            return false;
        }
        if IP == IPV4 {
            outer.source = Addr::v4(*header.add(3));
            *to == setting(|s| &s.host4).v4_word()
        } else {
            outer.source = Addr([*header.add(2), *header.add(3), *header.add(4), *header.add(5)]);
            Addr([*to, *to.add(1), *to.add(2), *to.add(3)]) == setting(|s| &s.host6)
        }
    }
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
    fn neighbour(&self, addr: Addr) -> Option<[u8; 6]> {
        self.skb.neighbour(addr)
    }

    #[inline(always)]
    fn sender(&self) -> [u8; 6] {
        self.skb.sender()
    }

    #[inline(always)]
    fn segment(&self, packet: &Packet) -> u32 {
        self.skb.segment(packet)
    }

    #[inline(always)]
    fn dont_fragment(&self) -> bool {
        self.skb.dont_fragment()
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
