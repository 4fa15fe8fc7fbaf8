//! The edits of a verdict, applied: addresses, ports, time to live, link addresses, and every checksum that covers them.
//!
//! From `finish`, once per packet. A transport checksum may be whole, or yet to be completed by a device, or there may be a
//! sum over the whole packet beside it (`CHECKSUM_COMPLETE`); programs are not told which, so the kernel is asked on the way.
use crate::packet::Skb;
use abi::{Addr, flow::Tuple};
use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    helpers::generated::{bpf_csum_update, bpf_l4_csum_replace, bpf_skb_store_bytes},
};
use datapath::{
    Frame, Packet,
    checksum::{change, fold16, fold32, update},
    parse::{ETHERNET, ICMP, KIND_ERROR, LATER, TCP, UDP, halves, is_icmp},
    step::Edits,
};

/// Where TCP and UDP have their checksums.
const TCP_CHECK: usize = 16;
const UDP_CHECK: usize = 6;

/// New link addresses: destination and source.
pub struct Link {
    /// Destination.
    pub to: [u8; 6],
    /// Source.
    pub from: [u8; 6],
}

/// Applies the edits. `None` if the kernel refused one.
#[inline(always)]
pub fn edit(skb: &Skb, packet: &Packet, edits: &Edits, link: Option<Link>) -> Option<()> {
    if edits.translate && packet.kind == KIND_ERROR {
        quoted(skb, packet, edits)?;
    } else if edits.translate && packet.fragment != LATER {
        transport(skb, packet, edits)?;
    }
    if edits.translate || edits.decrement {
        network(skb, packet, edits)?;
    }
    if let Some(link) = link {
        let header = skb.at::<[u16; 6]>(0)?;
        // SAFETY: twelve bytes in bounds, packet data of a tc program is writable.
        unsafe {
            *header = [
                u16::from_ne_bytes([link.to[0], link.to[1]]),
                u16::from_ne_bytes([link.to[2], link.to[3]]),
                u16::from_ne_bytes([link.to[4], link.to[5]]),
                u16::from_ne_bytes([link.from[0], link.from[1]]),
                u16::from_ne_bytes([link.from[2], link.from[3]]),
                u16::from_ne_bytes([link.from[4], link.from[5]]),
            ];
        }
    }
    Some(())
}

/// What new addresses add to a sum of one's complement. Of an IPv4 address only the last word ever changes.
#[inline(always)]
fn addresses(v6: bool, old: [&Addr; 2], new: [&Addr; 2]) -> u64 {
    let word = |at: usize| change(old[0].0[at], new[0].0[at]) + change(old[1].0[at], new[1].0[at]);
    if v6 { word(0) + word(1) + word(2) + word(3) } else { word(3) }
}

/// Puts new addresses into the checksum at `field` as a pseudo-header change, so that checksums which the device or the
/// receiver completes stay right.
#[inline(always)]
fn pseudo(skb: &Skb, packet: &Packet, field: u32, change: u64, flags: u64) -> Option<()> {
    let change = fold32(change);
    replace(skb, field, 0, u64::from(change), u64::from(BPF_F_PSEUDO_HDR) | flags)?;
    if packet.v6 != 0 {
        // The kernel takes the change out of the whole packet's sum (if the device gave one), as if a network header's
        // checksum took it up. IPv6 has none: put it back. (Linux 6.16 has a flag for it, older ones refuse it.)
        summed(skb, change);
    }
    Some(())
}

/// The packet changed in a way that no checksum in it takes up.
#[inline(always)]
fn summed(skb: &Skb, change: u32) {
    // SAFETY: the context is the program's own. It fails where there is no sum to be kept, which is right.
    unsafe { bpf_csum_update(skb.skb(), change) };
}

/// Ports and the transport checksum; ports are payload to a checksum that is yet to be completed.
#[inline(always)]
fn transport(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let v6 = packet.v6 != 0; // With 20 bytes of options, IPv4's transport header is at 54 too.
    match (packet.l4, packet.proto) {
        (34, TCP) => near::<34, TCP_CHECK>(skb, packet, edits),
        (34, UDP) => near::<34, UDP_CHECK>(skb, packet, edits),
        (54, TCP) if v6 => near::<54, TCP_CHECK>(skb, packet, edits),
        (54, UDP) if v6 => near::<54, UDP_CHECK>(skb, packet, edits),
        _ => far(skb, packet, edits),
    }
}

/// Of TCP and UDP where their headers nearly always are: direct writes, and one call of the kernel, which alone knows whether
/// the checksum is yet to be completed. Then it covers the pseudo header and no more, and the kernel leaves it alone when
/// what changes is payload.
#[inline(always)]
fn near<const L4: usize, const CHECK: usize>(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let (old, new) = (&packet.tuple, &edits.to);
    let field = skb.at::<u16>(L4 + CHECK)?;
    // SAFETY: two bytes in bounds.
    let before = unsafe { *field };
    // A UDP checksum of zero means none and stays so.
    if CHECK != UDP_CHECK || before != 0 {
        // A change that no sum takes for none.
        replace(skb, (L4 + CHECK) as u32, 0, 1, 0)?;
        let pseudo = addresses(L4 == 54, [&old.src, &old.dst], [&new.src, &new.dst]);
        let ports =
            change(u32::from(old.sport), u32::from(new.sport)) + change(u32::from(old.dport), u32::from(new.dport));
        let field = skb.at::<u16>(L4 + CHECK)?;
        // SAFETY: two bytes in bounds.
        unsafe {
            *field = if *field == before {
                fold16(u64::from(before) + pseudo)
            } else {
                if L4 != 54 {
                    // IPv4's own checksum takes the addresses up a second time.
                    summed(skb, !fold32(pseudo));
                }
                match update(before, pseudo + ports) {
                    0 if CHECK == UDP_CHECK => u16::MAX,
                    sum => sum,
                }
            };
        }
    }
    let field = skb.at::<[u16; 2]>(L4)?;
    // SAFETY: four bytes in bounds, packet data of a tc program is writable.
    unsafe { *field = [new.sport, new.dport] };
    Some(())
}

/// Wherever they are, and ICMP.
#[inline(always)]
fn far(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let (old, new) = (&packet.tuple, &edits.to);
    let icmp = is_icmp(packet.proto);
    // A UDP checksum of zero means none and stays so.
    let zero = if packet.proto == UDP { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
    let field = packet.l4
        + match packet.proto {
            UDP => 6,
            _ if icmp => 2,
            _ => 16,
        };
    if packet.proto != ICMP {
        let change = addresses(packet.v6 != 0, [&old.src, &old.dst], [&new.src, &new.dst]);
        pseudo(skb, packet, field, change, zero)?;
    }
    if old.sport != new.sport {
        replace(skb, field, u64::from(old.sport), u64::from(new.sport), 2 | zero)?;
        store(skb, packet.l4 + if icmp { 4 } else { 0 }, new.sport)?;
    }
    if old.dport != new.dport && !icmp {
        replace(skb, field, u64::from(old.dport), u64::from(new.dport), 2 | zero)?;
        store(skb, packet.l4 + 2, new.dport)?;
    }
    Some(())
}

/// The packet that an ICMP error quotes, translated back. The quoted transport checksum is left, since nobody can verify
/// a packet that is cut off.
#[inline(always)]
fn quoted(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let (old, new) = (packet.tuple.reversed(), edits.to.reversed());
    let icmp = is_icmp(packet.proto);
    let (field, ports) = (packet.l4 + 2, packet.inner + if icmp { 4 } else { 0 });
    replace(skb, field, u64::from(old.sport), u64::from(new.sport), 2)?;
    store(skb, ports, new.sport)?;
    if !icmp {
        replace(skb, field, u64::from(old.dport), u64::from(new.dport), 2)?;
        store(skb, ports + 2, new.dport)?;
    }
    if packet.v6 != 0 { quoted6(skb, packet, edits, &old, &new) } else { quoted4(skb, packet, &old, &new) }
}

/// Its sum over a whole IPv4 header stays the same, so the error's checksum needs not be told.
#[inline(always)]
fn quoted4(skb: &Skb, packet: &Packet, old: &Tuple, new: &Tuple) -> Option<()> {
    let (ttl, sum) = halves(skb.far_word(packet.quoted() as usize + 8)?);
    let (src, dst) = (new.src.v4_word(), new.dst.v4_word());
    let sum = update(sum, change(old.src.v4_word(), src) + change(old.dst.v4_word(), dst));
    store_words(skb, packet.quoted() + 8, [u32::from(ttl) | u32::from(sum) << 16, src, dst])
}

/// ICMPv6 sums up the quoted addresses and its own.
#[inline(always)]
fn quoted6(skb: &Skb, packet: &Packet, edits: &Edits, old: &Tuple, new: &Tuple) -> Option<()> {
    let inner = addresses(true, [&old.src, &old.dst], [&new.src, &new.dst]);
    replace(skb, packet.l4 + 2, 0, u64::from(fold32(inner)), 0)?;
    let source = edits.source(packet);
    let outer = addresses(true, [&packet.source, &packet.tuple.dst], [&source, &edits.to.dst]);
    pseudo(skb, packet, packet.l4 + 2, outer, 0)?;
    let (src, dst) = (new.src.0, new.dst.0);
    store_words(skb, packet.quoted() + 8, [src[0], src[1], src[2], src[3], dst[0], dst[1], dst[2], dst[3]])
}

/// Words anywhere in the packet.
#[inline(always)]
fn store_words<const N: usize>(skb: &Skb, offset: u32, words: [u32; N]) -> Option<()> {
    // SAFETY: the helper checks the packet's bounds; the source is as many bytes on the stack.
    let answer = unsafe { bpf_skb_store_bytes(skb.skb().cast(), offset, words.as_ptr().cast(), N as u32 * 4, 0) };
    (answer == 0).then_some(())
}

#[inline(always)]
fn replace(skb: &Skb, field: u32, from: u64, to: u64, flags: u64) -> Option<()> {
    // SAFETY: the helper checks the packet's bounds.
    let answer = unsafe { bpf_l4_csum_replace(skb.skb().cast(), field, from, to, flags) };
    (answer == 0).then_some(())
}

/// Two bytes of the transport header.
#[inline(always)]
fn store(skb: &Skb, offset: u32, value: u16) -> Option<()> {
    // SAFETY: the helper checks the packet's bounds; the source is two bytes on the stack.
    let answer = unsafe { bpf_skb_store_bytes(skb.skb().cast(), offset, (&raw const value).cast(), 2, 0) };
    (answer == 0).then_some(())
}

/// Addresses and time to live.
#[inline(always)]
fn network(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    if packet.v6 != 0 { network6(skb, packet, edits) } else { network4(skb, packet, edits) }
}

/// The sum over a whole IPv4 header never changes, so nothing that covers it needs to be told.
#[inline(always)]
fn network4(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let header = skb.at::<[u32; 5]>(ETHERNET)?.cast::<u32>();
    let mut sum = 0;
    // SAFETY: twenty bytes in bounds; words in memory order, as `change` wants them.
    unsafe {
        if edits.translate {
            let (src, dst) = (edits.source(packet).v4_word(), edits.to.dst.v4_word());
            sum += change(packet.source.v4_word(), src) + change(packet.tuple.dst.v4_word(), dst);
            *header.add(3) = src;
            *header.add(4) = dst;
        }
        let ttl_and_sum = header.add(2).cast::<u16>();
        if edits.decrement {
            let old = *ttl_and_sum;
            let new = old.wrapping_sub(1_u16.to_le()); // The time to live is the first byte in memory.
            sum += change(u32::from(old), u32::from(new));
            *ttl_and_sum = new;
        }
        let field = header.add(2).cast::<u16>().add(1);
        *field = update(*field, sum);
    }
    Some(())
}

/// The addresses' share is in the transport checksum; the hop limit is in none.
#[inline(always)]
fn network6(skb: &Skb, packet: &Packet, edits: &Edits) -> Option<()> {
    let header = skb.at::<[u32; 10]>(ETHERNET)?.cast::<u32>();
    let mut sum = 0;
    // SAFETY: forty bytes in bounds; words in memory order, as `change` wants them.
    unsafe {
        if edits.translate {
            let (new_src, new_dst) = (edits.source(packet), edits.to.dst);
            if packet.fragment == LATER {
                // Here nothing takes the addresses up.
                sum += addresses(true, [&packet.source, &packet.tuple.dst], [&new_src, &new_dst]);
            }
            let (src, dst) = (new_src.0, new_dst.0);
            *header.add(2) = src[0];
            *header.add(3) = src[1];
            *header.add(4) = src[2];
            *header.add(5) = src[3];
            *header.add(6) = dst[0];
            *header.add(7) = dst[1];
            *header.add(8) = dst[2];
            *header.add(9) = dst[3];
        }
        if edits.decrement {
            let next_and_hops = header.cast::<u16>().add(3);
            let old = *next_and_hops;
            let new = old.wrapping_sub(0x0100_u16.to_le()); // The hop limit is the second byte in memory.
            sum += change(u32::from(old), u32::from(new));
            *next_and_hops = new;
        }
    }
    if sum != 0 {
        summed(skb, fold32(sum));
    }
    Some(())
}
