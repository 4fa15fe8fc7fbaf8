//! Packets as bytes: made, read and edited as the programs edit them.
use crate::{
    Frame, Packet, checksum,
    parse::{ETHERNET, ICMP, KIND_ERROR, QUOTED, TCP, UDP},
    step::Edits,
};
use abi::flow::Tuple;
use std::{vec, vec::Vec};

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

    fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

/// A packet to be made. Ports in network byte order, as everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Make {
    /// Addresses and ports.
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
        if self.proto == ICMP {
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
        bytes.extend_from_slice(&[
            8,
            0,
            0x45,
            0,
            0,
            20 + transport.len() as u8,
            0,
            1,
            0x40,
            0,
            self.ttl,
            self.proto,
            0,
            0,
        ]);
        bytes.extend_from_slice(&self.tuple.src.v4_word().to_ne_bytes());
        bytes.extend_from_slice(&self.tuple.dst.v4_word().to_ne_bytes());
        let sum = checksum::of(&bytes[14..34], 0);
        bytes[24..26].copy_from_slice(&sum.to_ne_bytes());
        bytes.extend_from_slice(&transport);
        if let Some(at) = field(self.proto).filter(|_| !self.unsummed) {
            let sum = transport_sum(&bytes);
            bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
        }
        bytes
    }
}

/// Where the transport checksum lies (no IP options).
fn field(proto: u8) -> Option<usize> {
    match proto {
        TCP => Some(34 + 16),
        UDP => Some(34 + 6),
        ICMP => Some(34 + 2),
        _ => None,
    }
}

/// The transport checksum over the bytes as they are; 0 if the checksum in them is right.
fn transport_sum(bytes: &[u8]) -> u16 {
    let proto = bytes[23];
    let mut start = 0;
    if proto != ICMP {
        start = u64::from(u16::from(proto).to_be()) + u64::from((bytes.len() as u16 - 34).to_be());
        for at in (26..34).step_by(2) {
            start += u64::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        }
    }
    checksum::of(&bytes[34..], start)
}

/// Whether every checksum is right (or absent, where that is allowed).
pub fn sums_right(bytes: &[u8]) -> bool {
    let absent = bytes[23] == UDP && bytes[40..42] == [0, 0];
    checksum::of(&bytes[14..34], 0) == 0 && (absent || transport_sum(bytes) == 0)
}

/// New link addresses.
pub(super) fn relink(bytes: &mut [u8], to: [u8; 6], from: [u8; 6]) {
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
}

/// Applies edits. Checksums are made anew where the programs change them by differences: the tests compare the two.
pub(super) fn edit(bytes: &mut [u8], packet: &Packet, edits: &Edits) {
    if edits.decrement {
        bytes[22] -= 1;
    }
    let l4 = packet.l4 as usize;
    if edits.translate && packet.kind == KIND_ERROR {
        edit_error(bytes, packet, edits);
    } else if edits.translate {
        bytes[26..30].copy_from_slice(&edits.to.src.v4_word().to_ne_bytes());
        bytes[30..34].copy_from_slice(&edits.to.dst.v4_word().to_ne_bytes());
        let ports = if packet.proto == ICMP { l4 + 4 } else { l4 };
        bytes[ports..ports + 2].copy_from_slice(&edits.to.sport.to_ne_bytes());
        if packet.proto != ICMP {
            bytes[l4 + 2..l4 + 4].copy_from_slice(&edits.to.dport.to_ne_bytes());
        }
        resum(bytes, packet, l4);
    }
    bytes[24..26].fill(0);
    let sum = checksum::of(&bytes[ETHERNET..l4], 0);
    bytes[24..26].copy_from_slice(&sum.to_ne_bytes());
}

/// The header and the quoted packet of an ICMP error.
fn edit_error(bytes: &mut [u8], packet: &Packet, edits: &Edits) {
    bytes[26..30].copy_from_slice(&edits.source(packet).v4_word().to_ne_bytes());
    bytes[30..34].copy_from_slice(&edits.to.dst.v4_word().to_ne_bytes());
    let quoted = edits.to.reversed();
    bytes[QUOTED + 12..QUOTED + 16].copy_from_slice(&quoted.src.v4_word().to_ne_bytes());
    bytes[QUOTED + 16..QUOTED + 20].copy_from_slice(&quoted.dst.v4_word().to_ne_bytes());
    let ports = QUOTED + if packet.proto == ICMP { 24 } else { 20 };
    bytes[ports..ports + 2].copy_from_slice(&quoted.sport.to_ne_bytes());
    if packet.proto != ICMP {
        bytes[ports + 2..ports + 4].copy_from_slice(&quoted.dport.to_ne_bytes());
    }
    bytes[QUOTED + 10..QUOTED + 12].fill(0);
    let sum = checksum::of(&bytes[QUOTED..QUOTED + 20], 0);
    bytes[QUOTED + 10..QUOTED + 12].copy_from_slice(&sum.to_ne_bytes());
    bytes[36..38].fill(0);
    let sum = checksum::of(&bytes[34..], 0);
    bytes[36..38].copy_from_slice(&sum.to_ne_bytes());
}

fn resum(bytes: &mut [u8], packet: &Packet, l4: usize) {
    let Some(at) = field(packet.proto).map(|at| at - 34 + l4) else {
        return;
    };
    if packet.proto == UDP && bytes[at..at + 2] == [0, 0] {
        return;
    }
    bytes[at..at + 2].fill(0);
    let sum = transport_sum(bytes);
    bytes[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
}
