//! First stage: bytes → [`Packet`]. Reads each header field once and converts nothing twice; later stages see no bytes.
//!
//! Both families share what follows: each reads its own header, and from the transport header on there is one way.
mod extensions;

use abi::{Addr, DropReason, flow::Tuple};
use extensions::{DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, extensions};

/// Bytes of the packet from the link header on. Fields come as they lie in memory, so network byte order stays.
pub trait Frame {
    /// Length of the packet.
    fn len(&self) -> u32;
    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// A byte at a constant offset.
    fn byte(&self, at: usize) -> Option<u8>;
    /// Two bytes at a constant offset.
    fn half(&self, at: usize) -> Option<u16>;
    /// Four bytes at a constant offset.
    fn word(&self, at: usize) -> Option<u32>;
    /// Four bytes at an offset that is known only now (slower in the kernel).
    fn far_word(&self, at: usize) -> Option<u32>;
    /// Sixteen bytes at such an offset.
    fn far_addr(&self, at: usize) -> Option<Addr>;
    /// The device that the packet came by.
    fn ifindex(&self) -> u32;
}

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// ICMP of either family: its flows have an identifier in place of ports.
#[inline(always)]
pub const fn is_icmp(proto: u8) -> bool {
    proto == ICMP || proto == ICMPV6
}

/// Length of the link header.
pub const ETHERNET: usize = 14;
/// Ethertype of IPv4 as it lies in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// Ethertype of IPv6 as it lies in memory.
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
/// Ethertype of ARP as it lies in memory.
pub const ETHERTYPE_ARP: u16 = 0x0806_u16.to_be();

/// TCP flag.
pub const FIN: u8 = 0x01;
/// TCP flag.
pub const SYN: u8 = 0x02;
/// TCP flag.
pub const RST: u8 = 0x04;
/// TCP flag.
pub const ACK: u8 = 0x10;

/// TCP, UDP, or ICMP echo.
pub const KIND_FLOW: u8 = 0;
/// An ICMP error; the tuple is that of the flow it is about, turned to the error's own direction.
pub const KIND_ERROR: u8 = 1;

/// No fragment.
pub const WHOLE: u32 = 0;
/// The first fragment: it has the transport header.
pub const FIRST: u32 = 1;
/// A later one: it has not, and its ports are the first one's.
pub const LATER: u32 = 2;

/// What the stages know of a packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Packet {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Source address in the IP header; differs from the tuple's only in ICMP errors of routers.
    pub source: Addr,
    /// IP protocol number of the flow.
    pub proto: u8,
    /// TCP flags, 0 for other protocols.
    pub tcp: u8,
    /// Time to live.
    pub ttl: u8,
    /// [`KIND_FLOW`] or [`KIND_ERROR`].
    pub kind: u8,
    /// 1: IPv6. A word, since the verifier follows a word's value through the stack and a byte's not (before 6.8).
    pub v6: u32,
    /// Offset of the transport header.
    pub l4: u32,
    /// For [`KIND_ERROR`]: offset of the transport header in the packet that it quotes.
    pub inner: u32,
    /// [`WHOLE`], [`FIRST`] or [`LATER`].
    pub fragment: u32,
    /// Of a fragment: which packet's it is, as in the header.
    pub id: u32,
    /// Bytes, link header included.
    pub len: u32,
    /// The device that it came by.
    pub ifindex: u32,
}

impl Packet {
    /// For [`KIND_ERROR`]: offset of the packet that it quotes.
    #[inline(always)]
    pub fn quoted(&self) -> u32 {
        self.l4 + 8
    }

    /// The packet opens a TCP connection.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp & (SYN | ACK) == SYN
    }
}

/// How far the headers could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Headers {
    /// All is known: a flow's packet, its transport header where it nearly always is.
    Plain,
    /// It takes [`whole`]: options, extension headers, a fragment, an ICMP error, or something to be answered.
    Far,
}

/// Read the headers into a packet that is all zeros. (Not returned by value: the half of a `Result` that is not there
/// is undefined, and the verifier refuses to see it copied.)
#[inline(always)]
pub fn parse(frame: &impl Frame, packet: &mut Packet) -> Result<Headers, DropReason> {
    network(frame, packet)?;
    let read = if packet.fragment != WHOLE {
        return Ok(Headers::Far);
    } else if packet.v6 != 0 {
        if matches!(packet.proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            return Ok(Headers::Far);
        }
        transport(packet, |at| frame.word(54 + at))
    } else if packet.l4 == 34 {
        transport(packet, |at| frame.word(34 + at))
    } else {
        return Ok(Headers::Far);
    };
    match read {
        Ok(()) => Ok(if packet.kind == KIND_FLOW { Headers::Plain } else { Headers::Far }),
        Err(DropReason::LinkChatter) => Ok(Headers::Far),
        Err(reason) => Err(reason),
    }
}

/// The same for every packet, wherever its headers are: off the established path.
#[inline(always)]
pub fn whole(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    *packet = Packet::default();
    network(frame, packet)?;
    let (field, before) = if packet.v6 != 0 { (18, 54) } else { (16, ETHERNET as u32) };
    let over = end(packet, before, frame.half(field).ok_or(DropReason::Malformed)?);
    if packet.v6 != 0 {
        let end = extensions(frame, packet.proto, packet.l4)?;
        (packet.proto, packet.l4, packet.fragment, packet.id) = (end.proto, end.at, end.fragment, end.id);
    }
    if packet.l4 + least(packet) > over {
        return Err(DropReason::Malformed);
    }
    if packet.fragment == LATER {
        return Ok(());
    }
    let l4 = packet.l4 as usize;
    transport(packet, |at| frame.far_word(l4 + at))?;
    if packet.kind == KIND_ERROR { embedded(frame, packet, over) } else { Ok(()) }
}

/// Where the packet ends by its own header, whose length counts from `before` on. It says 0 of what is longer than it can
/// say: packets that the kernel will cut into segments.
#[inline(always)]
fn end(packet: &Packet, before: u32, length: u16) -> u32 {
    if length == 0 && packet.len > before + 0xffff { packet.len } else { before + u32::from(u16::from_be(length)) }
}

/// Bytes that there must be of what follows the network header. What lies behind the packet's own end, as short frames are
/// filled up, is nobody's: ports read there would be a sender's lie (RFC 1858 section 3 has it of first fragments).
#[inline(always)]
fn least(packet: &Packet) -> u32 {
    match packet.proto {
        _ if packet.fragment == LATER => 0,
        TCP => 20,
        _ => 8,
    }
}

#[inline(always)]
fn network(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    packet.len = frame.len();
    packet.ifindex = frame.ifindex();
    match frame.half(12) {
        Some(ETHERTYPE_IPV4) => ipv4(frame, packet),
        Some(ETHERTYPE_IPV6) => ipv6(frame, packet),
        Some(_) => Err(DropReason::UnsupportedProtocol),
        None => Err(DropReason::Malformed),
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    let bad = DropReason::Malformed;
    let dst = frame.word(30).ok_or(bad)?;
    let src = frame.word(26).ok_or(bad)?;
    let version = frame.byte(14).ok_or(bad)?;
    let over = end(packet, ETHERNET as u32, frame.half(16).ok_or(bad)?);
    let fragment = u16::from_be(frame.half(20).ok_or(bad)?);
    let header = u32::from(version & 0x0f) * 4;
    if fragment & 0x3fff != 0 {
        packet.fragment = if fragment & 0x1fff != 0 { LATER } else { FIRST };
        packet.id = u32::from(frame.half(18).ok_or(bad)?);
    }
    ends(packet, Addr::v4(src), Addr::v4(dst));
    packet.proto = frame.byte(23).ok_or(bad)?;
    packet.ttl = frame.byte(22).ok_or(bad)?;
    packet.l4 = ETHERNET as u32 + header;
    if version >> 4 != 4 || header < 20 || over < packet.l4 + least(packet) || over > packet.len {
        return Err(bad);
    }
    Ok(())
}

/// RFC 8200 section 3.
#[inline(always)]
fn ipv6(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    let bad = DropReason::Malformed;
    let addr = |at: usize| {
        let last = frame.word(at + 12)?;
        Some(Addr([frame.word(at)?, frame.word(at + 4)?, frame.word(at + 8)?, last]))
    };
    let dst = addr(38).ok_or(bad)?;
    let src = addr(22).ok_or(bad)?;
    packet.l4 = ETHERNET as u32 + 40;
    let over = end(packet, packet.l4, frame.half(18).ok_or(bad)?);
    packet.proto = frame.byte(20).ok_or(bad)?;
    let short = over < packet.l4 + least(packet) || over > packet.len;
    // A mapped address in a header would be taken for the IPv4 address that it maps.
    if frame.byte(14).ok_or(bad)? >> 4 != 6 || short || src.is_v4() || dst.is_v4() {
        return Err(bad);
    }
    packet.v6 = 1;
    ends(packet, src, dst);
    packet.ttl = frame.byte(21).ok_or(bad)?;
    Ok(())
}

#[inline(always)]
fn ends(packet: &mut Packet, src: Addr, dst: Addr) {
    packet.tuple = Tuple { src, dst, sport: 0, dport: 0 };
    packet.source = src;
}

/// Ports and flags, from words at offsets into the transport header.
#[inline(always)]
fn transport(packet: &mut Packet, word: impl Fn(usize) -> Option<u32>) -> Result<(), DropReason> {
    let bad = DropReason::Malformed;
    match packet.proto {
        TCP => {
            packet.tcp = word(12).ok_or(bad)?.to_ne_bytes()[1];
            set_ports(&mut packet.tuple, word(0).ok_or(bad)?);
        }
        UDP => {
            word(4).ok_or(bad)?;
            set_ports(&mut packet.tuple, word(0).ok_or(bad)?);
        }
        ICMP if packet.v6 == 0 => {
            let id = halves(word(4).ok_or(bad)?).0;
            match word(0).ok_or(bad)?.to_ne_bytes()[0] {
                0 | 8 | 13 | 14 => (packet.tuple.sport, packet.tuple.dport) = (id, id),
                3 | 11 | 12 => packet.kind = KIND_ERROR,
                _ => return Err(DropReason::UnsupportedProtocol),
            }
        }
        ICMPV6 if packet.v6 != 0 => {
            let id = halves(word(4).ok_or(bad)?).0;
            match word(0).ok_or(bad)?.to_ne_bytes()[0] {
                128 | 129 => (packet.tuple.sport, packet.tuple.dport) = (id, id),
                1..=4 => packet.kind = KIND_ERROR,
                134 | 137 => return Err(DropReason::RogueRouter),
                130..=136 | 143 => return Err(DropReason::LinkChatter),
                _ => return Err(DropReason::UnsupportedProtocol),
            }
        }
        _ => return Err(DropReason::UnsupportedProtocol),
    }
    Ok(())
}

/// The packet that an ICMP error quotes (RFC 792, RFC 4443), which ends at `over`: it went the other way, so the tuple is
/// turned round.
#[inline(always)]
fn embedded(frame: &impl Frame, packet: &mut Packet, over: u32) -> Result<(), DropReason> {
    let bad = DropReason::Malformed;
    let base = packet.quoted();
    let word = |at: u32| frame.far_word((base + at) as usize);
    let [first, ..] = word(0).ok_or(bad)?.to_ne_bytes();
    let mut quoted = Tuple::default();
    if packet.v6 != 0 {
        quoted.src = frame.far_addr(base as usize + 8).ok_or(bad)?;
        quoted.dst = frame.far_addr(base as usize + 24).ok_or(bad)?;
        if first >> 4 != 6 || quoted.src.is_v4() || quoted.dst.is_v4() {
            return Err(bad);
        }
        let next = word(4).ok_or(bad)?.to_ne_bytes()[2];
        let end = extensions(frame, next, base + 40)?;
        if end.fragment == LATER {
            return Err(DropReason::Fragment);
        }
        (packet.proto, packet.inner) = (end.proto, end.at);
    } else {
        quoted.src = Addr::v4(word(12).ok_or(bad)?);
        quoted.dst = Addr::v4(word(16).ok_or(bad)?);
        let [_, _, high, low] = word(4).ok_or(bad)?.to_ne_bytes();
        if first >> 4 != 4 || first & 0x0f < 5 || high & 0x1f != 0 || low != 0 {
            return Err(bad);
        }
        packet.proto = word(8).ok_or(bad)?.to_ne_bytes()[1];
        packet.inner = base + u32::from(first & 0x0f) * 4;
    }
    let at = packet.inner as usize;
    if packet.inner + if is_icmp(packet.proto) { 8 } else { 4 } > over {
        return Err(bad);
    } else if is_icmp(packet.proto) {
        let id = halves(frame.far_word(at + 4).ok_or(bad)?).0;
        (quoted.sport, quoted.dport) = (id, id);
    } else if matches!(packet.proto, TCP | UDP) {
        set_ports(&mut quoted, frame.far_word(at).ok_or(bad)?);
    } else {
        return Err(DropReason::UnsupportedProtocol);
    }
    packet.tuple = quoted.reversed();
    Ok(())
}

/// Two 16-bit fields that lie in one word, the first in memory first.
#[inline(always)]
pub const fn halves(word: u32) -> (u16, u16) {
    let b = word.to_ne_bytes();
    (u16::from_ne_bytes([b[0], b[1]]), u16::from_ne_bytes([b[2], b[3]]))
}

#[inline(always)]
fn set_ports(tuple: &mut Tuple, word: u32) {
    (tuple.sport, tuple.dport) = halves(word);
}
