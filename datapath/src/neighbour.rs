//! Answers to a pod's neighbour solicitations: every address that it may ask for is behind the gateway.
//!
//! IPv6's half of what [`crate::arp`] does. A pod has a permanent neighbour for its gateway, but the kernel asks for
//! other addresses, and again for those it knows (RFC 4861). A search for doubles (source `::`) is never answered.
use crate::{
    Frame, checksum,
    parse::{ETHERTYPE_IPV6, ICMPV6},
};
use abi::Addr;

/// Bytes of an answer from the network header on: IPv6, advertisement, and the option with the link address.
pub const LENGTH: usize = 40 + 24 + 8;
/// The same for a solicitation that came without the option, and so needs none in its answer.
const SHORT: u32 = 14 + 64;

/// A neighbour advertisement (RFC 4861 section 4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// Bytes from the network header on, as words in memory; the last two only if the packet has room.
    pub words: [u32; LENGTH / 4],
    /// The packet's length: that of the solicitation.
    pub len: u32,
}

/// The answer to the packet, if it is a solicitation that one is owed to.
#[inline(always)]
pub fn answer(frame: &impl Frame, gateway: [u8; 6]) -> Option<Advertisement> {
    // RFC 4861 section 7.1.1: one hop, no fragment, no extension header; the pod's own stack sends 24 or 32 bytes.
    let wide = frame.len() >= SHORT + 8;
    let length = if wide { 32_u16 } else { 24 };
    let (next, hops) = (frame.byte(20)?, frame.byte(21)?);
    let (kind, code) = (frame.byte(54)?, frame.byte(55)?);
    if frame.half(12)? != ETHERTYPE_IPV6 || next != ICMPV6 || hops != 255 || kind != 135 || code != 0 {
        return None;
    }
    if frame.half(18)? != length.to_be() || frame.len() != SHORT + u32::from(length) - 24 {
        return None;
    }
    let addr =
        |at: usize| Some(Addr([frame.word(at)?, frame.word(at + 4)?, frame.word(at + 8)?, frame.word(at + 12)?]));
    let (source, target) = (addr(22)?, frame.far_addr(62)?);
    if source == Addr::ANY || source == target || target.0[0].to_ne_bytes()[0] == 0xff {
        return None;
    }
    Some(advertise(source, target, gateway, wide, frame.len()))
}

#[inline(always)]
fn advertise(to: Addr, from: Addr, gateway: [u8; 6], wide: bool, len: u32) -> Advertisement {
    let word = |bytes: [u8; 4]| u32::from_ne_bytes(bytes);
    let length: u8 = if wide { 32 } else { 24 };
    let [a, b, c, d, e, f] = gateway;
    let (f0, f1, f2, f3) = (from.0[0], from.0[1], from.0[2], from.0[3]);
    // Router, solicited, override.
    let flags = word([0xe0, 0, 0, 0]);
    let option = if wide { [word([2, 1, a, b]), word([c, d, e, f])] } else { [0; 2] };
    let kind = word([136, 0, 0, 0]);
    let pseudo = u64::from(word([0, 0, 0, length])) + u64::from(word([0, 0, 0, ICMPV6]));
    let mut sum = pseudo + u64::from(kind) + u64::from(flags) + u64::from(option[0]) + u64::from(option[1]);
    // The target is the source once more.
    sum += 2 * (u64::from(f0) + u64::from(f1) + u64::from(f2) + u64::from(f3));
    sum += u64::from(to.0[0]) + u64::from(to.0[1]) + u64::from(to.0[2]) + u64::from(to.0[3]);
    let [low, high] = (!checksum::fold16(sum)).to_ne_bytes();
    let words = [
        word([0x60, 0, 0, 0]),
        word([0, length, ICMPV6, 255]),
        f0,
        f1,
        f2,
        f3,
        to.0[0],
        to.0[1],
        to.0[2],
        to.0[3],
        word([136, 0, low, high]),
        flags,
        f0,
        f1,
        f2,
        f3,
        option[0],
        option[1],
    ];
    Advertisement { words, len }
}
