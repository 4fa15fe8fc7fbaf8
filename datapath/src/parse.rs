//! First stage: bytes → [`Packet`]. Reads each header field once and converts nothing twice; later stages see no bytes.
//!
//! Both families will share what follows; today IPv4 is read and everything else is `UnsupportedProtocol`.
use abi::{Addr, DropReason, flow::Tuple};

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
    /// The device that the packet came by.
    fn ifindex(&self) -> u32;
}

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// Length of the link header.
pub const ETHERNET: usize = 14;
/// Offset of the packet that an ICMP error quotes (no IP options).
pub const QUOTED: usize = ETHERNET + 20 + 8;
/// Ethertype of IPv4 as it lies in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
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
    /// Offset of the transport header.
    pub l4: u32,
    /// Bytes, link header included.
    pub len: u32,
    /// The device that it came by.
    pub ifindex: u32,
}

impl Packet {
    /// The packet opens a TCP connection.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.tcp & (SYN | ACK) == SYN
    }
}

/// Read the headers into a packet that is all zeros. (Not returned by value: the half of a `Result` that is not there
/// is undefined, and the verifier refuses to see it copied.)
#[inline(always)]
pub fn parse(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    match frame.half(12) {
        Some(ETHERTYPE_IPV4) => ipv4(frame, packet),
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
    let total = u32::from(u16::from_be(frame.half(16).ok_or(bad)?));
    let fragment = u16::from_be(frame.half(20).ok_or(bad)?);
    let header = u32::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header < 20 || total < header || total + 14 > frame.len() {
        return Err(bad);
    }
    if fragment & 0x1fff != 0 {
        return Err(DropReason::Fragment);
    }
    packet.tuple = Tuple { src: Addr::v4(src), dst: Addr::v4(dst), sport: 0, dport: 0 };
    packet.source = packet.tuple.src;
    packet.proto = frame.byte(23).ok_or(bad)?;
    packet.ttl = frame.byte(22).ok_or(bad)?;
    packet.l4 = ETHERNET as u32 + header;
    packet.len = frame.len();
    packet.ifindex = frame.ifindex();
    if header != 20 {
        return with_options(frame, packet);
    }
    transport(packet, |at| frame.word(34 + at))?;
    if packet.kind == KIND_ERROR {
        return embedded(packet, frame);
    }
    Ok(())
}

/// The transport header is where only this packet says.
#[inline(always)]
fn with_options(frame: &impl Frame, packet: &mut Packet) -> Result<(), DropReason> {
    let l4 = packet.l4 as usize;
    transport(packet, |at| frame.far_word(l4 + at))?;
    if packet.kind == KIND_ERROR { Err(DropReason::UnsupportedProtocol) } else { Ok(()) }
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
        ICMP => {
            let id = halves(word(4).ok_or(bad)?).0;
            match word(0).ok_or(bad)?.to_ne_bytes()[0] {
                0 | 8 | 13 | 14 => (packet.tuple.sport, packet.tuple.dport) = (id, id),
                3 | 11 | 12 => packet.kind = KIND_ERROR,
                _ => return Err(DropReason::UnsupportedProtocol),
            }
        }
        _ => return Err(DropReason::UnsupportedProtocol),
    }
    Ok(())
}

/// The packet that an ICMP error quotes (RFC 792): it went the other way, so the tuple is turned round.
#[inline(always)]
fn embedded(packet: &mut Packet, frame: &impl Frame) -> Result<(), DropReason> {
    const INNER: usize = QUOTED;
    let bad = DropReason::Malformed;
    let ports = frame.word(INNER + 20).ok_or(bad)?;
    if frame.byte(INNER).ok_or(bad)? != 0x45 {
        return Err(DropReason::UnsupportedProtocol);
    }
    let (src, dst) = (frame.word(INNER + 12).ok_or(bad)?, frame.word(INNER + 16).ok_or(bad)?);
    let mut quoted = Tuple { src: Addr::v4(src), dst: Addr::v4(dst), sport: 0, dport: 0 };
    packet.proto = frame.byte(INNER + 9).ok_or(bad)?;
    match packet.proto {
        TCP | UDP => set_ports(&mut quoted, ports),
        ICMP => {
            let id = halves(frame.word(INNER + 24).ok_or(bad)?).0;
            (quoted.sport, quoted.dport) = (id, id);
        }
        _ => return Err(DropReason::UnsupportedProtocol),
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
