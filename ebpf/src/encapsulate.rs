//! The overlay's outer header, written by the program (back end `program`): from `finish`, before the redirect to the NIC.
//!
//! What comes out is what the VXLAN device would send: source port from the packet's hash, the inner packet's ECN bits, no DF, a
//! UDP checksum over IPv6 and none over IPv4. What cannot be done here so that it is right is refused, and `finish` gives it to
//! the device: the two are told apart by nobody on the wire.
use crate::{kernel::setting, packet::Skb};
use abi::{Addr, config::OVERLAY_SOURCE_MAC, event::Hook};
use aya_ebpf::{
    bindings::{
        BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{bpf_check_mtu, bpf_get_hash_recalc, bpf_get_prandom_u32, bpf_skb_adjust_room},
};
use datapath::{
    Frame, Outcome, Packet,
    checksum::fold16,
    parse::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP, KIND_FLOW, UDP, WHOLE},
};

/// Length of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Length of an IPv6 header.
pub const IPV6: usize = 40;
/// What the outer header has behind its IP header: UDP, VXLAN, and the inner link header.
pub const BEHIND: usize = 8 + 8 + ETHERNET;
/// UDP and VXLAN headers.
const SHIM: u32 = 16;
/// First source port, and how many there are: Linux's own range, which a VXLAN device takes its ports from.
const PORTS: (u32, u32) = (32_768, 60_999 - 32_768);
/// First word of a VXLAN header: it has a VNI (RFC 7348 section 5).
pub const HAS_VNI: u32 = u32::from_ne_bytes([0x08, 0, 0, 0]);
/// ECN: congestion experienced (RFC 3168).
pub const CONGESTION: u8 = 3;
/// ECN: able to use it, as the outer header says of a packet that has met congestion already (RFC 6040).
const ECT_0: u8 = 2;
/// Time to live of outer headers.
pub const TTL: u8 = 64;

/// Puts the outer header before a packet that is edited already. False: nothing has changed.
#[inline(always)]
pub fn write(skb: &Skb, packet: &Packet, hook: u32, outcome: &Outcome) -> bool {
    if outcome.tunnel.is_v4() {
        outer::<IPV4>(skb, packet, hook, outcome)
    } else {
        outer::<IPV6>(skb, packet, hook, outcome)
    }
}

#[inline(always)]
fn outer<const IP: usize>(skb: &Skb, packet: &Packet, hook: u32, outcome: &Outcome) -> bool {
    let length = skb.len() + SHIM;
    if length + IP as u32 > 0xffff || !fits(skb, hook, IP + BEHIND) {
        return false;
    }
    let mut sum = 0;
    if IP == IPV6 && !summed(skb, packet, &mut sum) {
        return false;
    }
    let ecn = match congestion(skb, packet) {
        CONGESTION => ECT_0,
        bits => bits,
    };
    // SAFETY: the context is the program's own.
    let hash = unsafe { bpf_get_hash_recalc(skb.skb()) };
    let hash = hash ^ hash << 16; // What is on the wire should not tell the hash.
    let port = (PORTS.0 + ((u64::from(hash) * u64::from(PORTS.1)) >> 32) as u32) as u16;
    if !grow::<IP>(skb) {
        return false;
    }
    let Some(header) = header::<IP>(skb) else {
        return false; // Never: the room was just made.
    };
    let length = length as u16;
    // SAFETY: `IP + BEHIND` bytes in bounds, of which the shim begins at `IP`; packet data of a tc program is writable.
    unsafe {
        let shim = header.add(IP / 4);
        *shim = u32::from(port.to_be()) | u32::from(setting(|s| &s.overlay_port)) << 16;
        *shim.add(2) = HAS_VNI;
        *shim.add(3) = (outcome.vni << 8).to_be();
        let [a, b, c, d, e, f] = setting(|s| &s.gateway_mac);
        let [g, h, i, j, k, l] = OVERLAY_SOURCE_MAC;
        *shim.add(4) = u32::from_ne_bytes([a, b, c, d]);
        *shim.add(5) = u32::from_ne_bytes([e, f, g, h]);
        *shim.add(6) = u32::from_ne_bytes([i, j, k, l]);
        let inner = if packet.v6 != 0 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        *shim.add(7).cast::<u16>() = inner;
        let check = if IP == IPV4 {
            ipv4(header, outcome.tunnel, length, ecn);
            0
        } else {
            ipv6(header, outcome.tunnel, length, ecn);
            for word in 0..7 {
                sum += if word == 1 { 0 } else { u64::from(*shim.add(word)) };
            }
            // The pseudo header: both addresses, length and protocol; and the length once more for the header's own.
            for word in 2..10 {
                sum += u64::from(*header.add(word));
            }
            let counted = 2 * u64::from(length.to_be()) + u64::from(u16::from(UDP).to_be());
            match !fold16(sum + u64::from(inner) + counted) {
                0 => u16::MAX, // Zero would mean none.
                check => check,
            }
        };
        *shim.add(1) = u32::from(length.to_be()) | u32::from(check) << 16;
    }
    true
}

/// Whether the NIC takes the packet with its outer header. Pods and the host's routes keep to an MTU that leaves room for it; only
/// what the NIC itself brought in, or the host made for it, may be too long. Of such, the device makes pieces.
#[inline(always)]
fn fits(skb: &Skb, hook: u32, room: usize) -> bool {
    if hook != Hook::FromNetdev as u32 && hook != Hook::ToNetdev as u32 {
        return true;
    }
    if skb.gso_size() != 0 {
        return false;
    }
    let mut mtu = 0_u32;
    // SAFETY: the context is the program's own; the result is four bytes on the stack.
    unsafe { bpf_check_mtu(skb.skb().cast(), 0, &raw mut mtu, room as i32, 0) == 0 }
}

/// The ECN bits of the inner header.
#[inline(always)]
fn congestion(skb: &Skb, packet: &Packet) -> u8 {
    let second = skb.byte(ETHERNET + 1).unwrap_or(0);
    (if packet.v6 != 0 { second >> 4 } else { second }) & 3
}

/// The sum of the inner packet from its IP header on, without a look at its payload: with a transport checksum in it that is
/// right, or that somebody will make right, everything from the transport header on sums up to what the pseudo header lacks.
/// False where there is no such checksum, or not one for all bytes.
#[inline(always)]
fn summed(skb: &Skb, packet: &Packet, sum: &mut u64) -> bool {
    // Of large packets the kernel would leave the same checksum in all that it cuts them into.
    if skb.gso_size() != 0 || packet.kind != KIND_FLOW || packet.fragment != WHOLE {
        return false;
    }
    let usual = ETHERNET + if packet.v6 != 0 { IPV6 } else { IPV4 };
    let (Some(length), Some(udp_sum)) =
        (skb.half(if packet.v6 != 0 { 18 } else { 16 }), skb.far_word(packet.l4 as usize + 4))
    else {
        return false;
    };
    if packet.l4 != usual as u32 || (packet.proto == UDP && udp_sum & 0xffff_0000_u32.to_le() == 0) {
        return false;
    }
    let length = u32::from(u16::from_be(length));
    let proto = u16::from(packet.proto).to_be();
    if packet.v6 != 0 {
        // The header's addresses and length are the pseudo header's, too.
        let (Some(first), Some(next_and_hops)) = (skb.word(14), skb.half(20)) else {
            return false;
        };
        *sum = u64::from(first) + u64::from(next_and_hops) + u64::from(!proto);
        return length + 54 == skb.len();
    }
    if packet.proto != ICMP {
        let (Some(src), Some(dst)) = (skb.word(26), skb.word(30)) else {
            return false;
        };
        let payload = (length as u16).wrapping_sub(IPV4 as u16).to_be();
        *sum = u64::from(!src) + u64::from(!dst) + u64::from(!payload) + u64::from(!proto);
    }
    length + ETHERNET as u32 == skb.len()
}

/// Makes room, and tells the kernel what will be in it, so that it cuts large packets right.
#[inline(always)]
fn grow<const IP: usize>(skb: &Skb) -> bool {
    let family = if IP == IPV4 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
    let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | family;
    let flags = u64::from(flags) | (ETHERNET as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
    // SAFETY: the context is the program's own. It fails before it changes anything.
    unsafe { bpf_skb_adjust_room(skb.skb(), (IP + BEHIND) as i32, BPF_ADJ_ROOM_MAC, flags) == 0 }
}

/// What is behind the link header, up to the inner IP header.
#[inline(always)]
pub fn header<const IP: usize>(skb: &Skb) -> Option<*mut u32> {
    Some(if IP == IPV4 {
        skb.at::<[u8; IPV4 + BEHIND]>(ETHERNET)?.cast()
    } else {
        skb.at::<[u8; IPV6 + BEHIND]>(ETHERNET)?.cast()
    })
}

/// RFC 791. Without DF, as the device's: so it wants an identification.
#[inline(always)]
unsafe fn ipv4(header: *mut u32, to: Addr, length: u16, ecn: u8) {
    let [high, low] = (length + IPV4 as u16).to_be_bytes();
    let from = setting(|s| &s.host4).v4_word();
    // SAFETY: twenty bytes in bounds; no arguments.
    unsafe {
        let number = bpf_get_prandom_u32() as u32 & 0xffff_u32.to_le();
        let first = u32::from_ne_bytes([0x45, ecn, high, low]);
        let third = u32::from_ne_bytes([TTL, UDP, 0, 0]);
        let sum = u64::from(first) + u64::from(number) + u64::from(third) + u64::from(from) + u64::from(to.v4_word());
        *header = first;
        *header.add(1) = number;
        *header.add(2) = third | u32::from(!fold16(sum)) << 16;
        *header.add(3) = from;
        *header.add(4) = to.v4_word();
    }
}

/// RFC 8200.
#[inline(always)]
unsafe fn ipv6(header: *mut u32, to: Addr, length: u16, ecn: u8) {
    let [high, low] = length.to_be_bytes();
    let from = setting(|s| &s.host6);
    // SAFETY: forty bytes in bounds.
    unsafe {
        *header = u32::from_ne_bytes([0x60, ecn << 4, 0, 0]);
        *header.add(1) = u32::from_ne_bytes([high, low, UDP, TTL]);
        *header.add(2) = from.0[0];
        *header.add(3) = from.0[1];
        *header.add(4) = from.0[2];
        *header.add(5) = from.0[3];
        *header.add(6) = to.0[0];
        *header.add(7) = to.0[1];
        *header.add(8) = to.0[2];
        *header.add(9) = to.0[3];
    }
}
