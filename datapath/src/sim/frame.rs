//! Packets as bytes: made, read and edited as the programs edit them.
use crate::{
    Frame, Packet, checksum,
    neighbour::Advertisement,
    parse::{ETHERNET, FIRST, ICMP, ICMPV6, KIND_ERROR, LATER, TCP, UDP, WHOLE, is_icmp},
    step::Edits,
    too_big::{Message, QUOTE},
};
use abi::{Addr, flow::Tuple};
use std::{ops::Range, vec, vec::Vec};

/// A packet that came by a device.
pub struct Bytes<'a> {
    /// From the link header on.
    pub bytes: &'a [u8],
    /// The device.
    pub ifindex: u32,
}

impl Frame for Bytes<'_> {
    fn len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn half(&self, at: usize) -> Option<u16> {
        Some(u16::from_ne_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }

    fn far_word(&self, at: usize) -> Option<u32> {
        self.word(at)
    }

    fn far_addr(&self, at: usize) -> Option<Addr> {
        Some(Addr::from_bytes(self.bytes.get(at..at + 16)?.try_into().ok()?))
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

/// A packet to be made. Ports in network byte order, as everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    /// Addresses, whose family is the packet's, and ports.
    pub tuple: Tuple,
    /// IP protocol number.
    pub proto: u8,
    /// TCP flags; for ICMP the type.
    pub flags: u8,
    /// Time to live.
    pub ttl: u8,
    /// Link addresses: destination, source.
    pub link: [[u8; 6]; 2],
    /// UDP without a checksum.
    pub unsummed: bool,
    /// Numbers of the IPv6 extension headers before the transport, eight bytes each.
    pub extensions: &'static [u8],
}

/// Bytes after the transport header.
const PAYLOAD: &[u8] = b"weft";

impl Make {
    /// The bytes, checksums included.
    pub fn bytes(&self) -> Vec<u8> {
        let mut transport = match self.proto {
            TCP => vec![0; 20],
            _ => vec![0; 8],
        };
        if is_icmp(self.proto) {
            transport[0] = self.flags;
            transport[4..6].copy_from_slice(&self.tuple.sport.to_ne_bytes());
        } else {
            transport[..2].copy_from_slice(&self.tuple.sport.to_ne_bytes());
            transport[2..4].copy_from_slice(&self.tuple.dport.to_ne_bytes());
        }
        match self.proto {
            TCP => (transport[12], transport[13]) = (0x50, self.flags),
            UDP => transport[5] = 8 + PAYLOAD.len() as u8,
            _ => {}
        }
        transport.extend_from_slice(PAYLOAD);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.link[0]);
        bytes.extend_from_slice(&self.link[1]);
        if self.tuple.src.is_v4() {
            self.ipv4(&mut bytes, transport.len());
        } else {
            self.ipv6(&mut bytes, &transport);
        }
        bytes.extend_from_slice(&transport);
        sum_header(&mut bytes, 14);
        if !self.unsummed {
            resum(&mut bytes);
        }
        bytes
    }

    fn ipv4(&self, bytes: &mut Vec<u8>, transport: usize) {
        let total = 20 + transport as u8;
        bytes.extend_from_slice(&[8, 0, 0x45, 0, 0, total, 0, 1, 0x40, 0, self.ttl, self.proto, 0, 0]);
        bytes.extend_from_slice(&self.tuple.src.v4_word().to_ne_bytes());
        bytes.extend_from_slice(&self.tuple.dst.v4_word().to_ne_bytes());
    }

    fn ipv6(&self, bytes: &mut Vec<u8>, transport: &[u8]) {
        let length = (transport.len() + 8 * self.extensions.len()) as u8;
        let mut next = self.extensions.iter().copied().chain([self.proto]);
        bytes.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, next.next().unwrap_or(0), self.ttl]);
        bytes.extend_from_slice(&self.tuple.src.bytes());
        bytes.extend_from_slice(&self.tuple.dst.bytes());
        for after in next {
            bytes.extend_from_slice(&[after, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
}

/// What stands where in a packet; none if it is no IP packet.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Source address.
    pub src: Range<usize>,
    /// Destination address.
    pub dst: Range<usize>,
    /// Time to live.
    pub ttl: usize,
    /// IP protocol number of the transport.
    pub proto: u8,
    /// Offset of the transport header.
    pub l4: usize,
    /// Offset past the packet by its header.
    pub end: usize,
}

/// The layout of the packet whose network header is at `at`.
pub fn layout(bytes: &[u8], at: usize) -> Layout {
    let length = |from: usize| usize::from(u16::from_be_bytes([bytes[at + from], bytes[at + from + 1]]));
    if bytes[at] >> 4 == 4 {
        let l4 = at + usize::from(bytes[at] & 0x0f) * 4;
        let (proto, end) = (bytes[at + 9], at + length(2));
        return Layout { src: at + 12..at + 16, dst: at + 16..at + 20, ttl: at + 8, proto, l4, end };
    }
    let (mut proto, mut l4) = (bytes[at + 6], at + 40);
    while matches!(proto, 0 | 43 | 44 | 60) {
        let length = if proto == 44 { 0 } else { usize::from(bytes[l4 + 1]) };
        proto = bytes[l4];
        l4 += 8 + 8 * length;
    }
    Layout { src: at + 8..at + 24, dst: at + 24..at + 40, ttl: at + 7, proto, l4, end: at + 40 + length(4) }
}

impl Layout {
    /// Where the transport checksum lies; none if the packet ends before it.
    fn field(&self) -> Option<usize> {
        let at = match self.proto {
            TCP => self.l4 + 16,
            UDP => self.l4 + 6,
            ICMP | ICMPV6 => self.l4 + 2,
            _ => return None,
        };
        (at + 2 <= self.end).then_some(at)
    }

    /// The transport checksum over the bytes as they are; 0 if the checksum in them is right.
    fn sum(&self, bytes: &[u8]) -> u16 {
        let mut start = 0;
        if self.proto != ICMP {
            start = u64::from(u16::from(self.proto).to_be()) + u64::from(((self.end - self.l4) as u16).to_be());
            for at in (self.src.start..self.dst.end).step_by(2) {
                start += u64::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
            }
        }
        checksum::of(&bytes[self.l4..self.end], start)
    }

    /// Where the ports lie, or the one identifier.
    pub fn ports(&self) -> [usize; 2] {
        if is_icmp(self.proto) { [self.l4 + 4; 2] } else { [self.l4, self.l4 + 2] }
    }
}

/// Whether every checksum is right (or absent, where that is allowed).
pub fn sums_right(bytes: &[u8]) -> bool {
    let layout = layout(bytes, ETHERNET);
    let absent = layout.proto == UDP && bytes[layout.l4 + 6..layout.l4 + 8] == [0, 0];
    let header = bytes[ETHERNET] >> 4 == 6 || checksum::of(&bytes[ETHERNET..layout.l4], 0) == 0;
    header && (absent || layout.sum(bytes) == 0)
}

/// Writes the checksum of the network header at `at`, if its family has one.
pub fn sum_header(bytes: &mut [u8], at: usize) {
    if bytes[at] >> 4 == 4 {
        let end = at + usize::from(bytes[at] & 0x0f) * 4;
        bytes[at + 10..at + 12].fill(0);
        let sum = checksum::of(&bytes[at..end], 0);
        bytes[at + 10..at + 12].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// Writes the transport checksum.
pub fn resum(bytes: &mut [u8]) {
    let layout = layout(bytes, ETHERNET);
    if let Some(at) = layout.field() {
        bytes[at..at + 2].fill(0);
        let sum = layout.sum(bytes);
        bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    }
}

/// New link addresses.
pub(super) fn relink(bytes: &mut [u8], to: [u8; 6], from: [u8; 6]) {
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
}

/// Turns a solicitation into its answer.
pub(super) fn advertise(bytes: &mut [u8], advertisement: &Advertisement, gateway: [u8; 6]) {
    let pod = [bytes[6], bytes[7], bytes[8], bytes[9], bytes[10], bytes[11]];
    relink(bytes, pod, gateway);
    let words = advertisement.words.iter().flat_map(|word| word.to_ne_bytes());
    for (byte, new) in bytes[ETHERNET..].iter_mut().zip(words) {
        *byte = new;
    }
}

/// Turns a packet into what its sender is told of it; `inward` has the link address of what it goes back by, if not by the
/// device that it came by.
pub(super) fn too_big(bytes: &mut Vec<u8>, message: &Message, inward: Option<[u8; 6]>) {
    let (to, from) = (array(&bytes[6..12]), array(&bytes[..6]));
    let (to, from) = inward.map_or((to, from), |gateway| (gateway, gateway));
    if message.sum_at != 0 {
        let at = message.sum_at as usize;
        bytes[at..at + 2].copy_from_slice(&message.sum.to_ne_bytes());
    }
    let words = message.words[..message.len / 4].iter().flat_map(|word| word.to_ne_bytes());
    bytes.truncate(ETHERNET + QUOTE);
    bytes.splice(ETHERNET..ETHERNET, words);
    relink(bytes, to, from);
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

fn write(bytes: &mut [u8], at: &Range<usize>, addr: Addr) {
    let whole = addr.bytes();
    bytes[at.clone()].copy_from_slice(&whole[16 - at.len()..]);
}

fn write_ends(bytes: &mut [u8], layout: &Layout, to: &Tuple) {
    write(bytes, &layout.src, to.src);
    write(bytes, &layout.dst, to.dst);
    let [sport, dport] = layout.ports();
    if !is_icmp(layout.proto) {
        bytes[dport..dport + 2].copy_from_slice(&to.dport.to_ne_bytes());
    }
    bytes[sport..sport + 2].copy_from_slice(&to.sport.to_ne_bytes());
}

/// The checksum over a packet of which only the first part is there.
fn change_sum(bytes: &mut [u8], packet: &Packet, edits: &Edits) {
    let mut change = 0;
    let words = |tuple: &Tuple| tuple.src.0.into_iter().chain(tuple.dst.0);
    if packet.proto != ICMP {
        for (old, new) in words(&packet.tuple).zip(words(&edits.to)) {
            change += checksum::change(old, new);
        }
        change += checksum::change(u32::from(packet.tuple.dport), u32::from(edits.to.dport));
    }
    change += checksum::change(u32::from(packet.tuple.sport), u32::from(edits.to.sport));
    if let Some(at) = layout(bytes, ETHERNET).field() {
        let field = u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].copy_from_slice(&checksum::update(field, change).to_ne_bytes());
    }
}

/// Applies edits. Checksums are made anew where the programs change them by differences: the tests compare the two.
pub(super) fn edit(bytes: &mut [u8], packet: &Packet, edits: &Edits) {
    if !(edits.decrement || edits.translate) {
        return; // What passes untouched need not even be readable.
    }
    let layout = layout(bytes, ETHERNET);
    if edits.decrement {
        bytes[layout.ttl] -= 1;
    }
    if edits.translate && packet.kind == KIND_ERROR {
        write(bytes, &layout.src, edits.source(packet));
        write(bytes, &layout.dst, edits.to.dst);
        let quoted = packet.quoted() as usize;
        let inner = self::layout(bytes, quoted);
        write_ends(bytes, &inner, &edits.to.reversed());
        sum_header(bytes, quoted);
        resum(bytes);
    } else if edits.translate {
        if packet.fragment == LATER {
            write(bytes, &layout.src, edits.to.src);
            write(bytes, &layout.dst, edits.to.dst);
        } else {
            let absent = packet.proto == UDP && bytes[layout.l4 + 6..layout.l4 + 8] == [0, 0];
            write_ends(bytes, &layout, &edits.to);
            match packet.fragment {
                FIRST if !absent => change_sum(bytes, packet, edits),
                WHOLE if !absent => resum(bytes),
                _ => {}
            }
        }
    }
    sum_header(bytes, ETHERNET);
}
