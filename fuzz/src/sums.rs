//! Checksums of a packet as they are, read apart from the code that edits them.
use datapath::{
    Packet,
    checksum::fold16,
    parse::{ETHERNET, FIRST, ICMPV6, LATER, TCP, UDP, is_icmp},
};

/// Sums of the network header and of the transport, each with its checksum field, in one's complement: 0 is right. None
/// where there is no such checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sums {
    network: Option<u16>,
    transport: Option<u16>,
    /// Of a first fragment the sum over all of the packet cannot be known: what it lacks must stay the same.
    part: bool,
}

impl Sums {
    /// Of the packet in `bytes`, whose headers lie where `packet` says.
    pub(crate) fn of(bytes: &[u8], packet: &Packet) -> Sums {
        let l4 = packet.l4 as usize;
        let half = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let six = packet.v6 != 0;
        let (ends, end) = if six { (22..54, 54 + half(18)) } else { (26..34, ETHERNET + half(16)) };
        let network = (!six).then(|| folded(sum(&bytes[ETHERNET..l4])));
        // The transport of the packet itself, which for an ICMP error is not that of the flow.
        let error = packet.inner != 0;
        let icmp = error || is_icmp(packet.proto);
        let field = match packet.proto {
            _ if icmp => 2,
            TCP => 16,
            UDP => 6,
            _ => 2,
        };
        let there = packet.fragment != LATER && l4 + field + 2 <= end;
        let absent = there && !icmp && packet.proto == UDP && bytes[l4 + 6..l4 + 8] == [0, 0];
        let transport = (there && !absent).then(|| {
            let proto = if icmp { ICMPV6 } else { packet.proto };
            let length = u16::try_from(end - l4).unwrap_or(u16::MAX);
            let pseudo = sum(&bytes[ends]) + u64::from(u16::from(proto).to_be()) + u64::from(length.to_be());
            folded(sum(&bytes[l4..end]) + if icmp && !six { 0 } else { pseudo })
        });
        Sums { network, transport, part: packet.fragment == FIRST }
    }

    /// Whether what was right is right.
    pub(crate) fn hold_where(&self, before: &Sums) -> bool {
        let network = before.network != Some(0) || self.network == before.network;
        network && (!(before.part || before.transport == Some(0)) || self.transport == before.transport)
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

/// Both zeros of one's complement are one.
fn folded(sum: u64) -> u16 {
    match fold16(sum) {
        0xffff => 0,
        other => other,
    }
}
