//! Echo requests with their network header, and what comes back (RFC 792; RFC 4443 section 4).
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Time to live: through any underlay.
const HOPS: u8 = 64;

/// A request of `size` bytes, network header included, that no router may split.
pub(super) fn request(from: IpAddr, to: IpAddr, size: u32, (id, sequence): (u16, u16)) -> Vec<u8> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, size),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, size),
        _ => return Vec::new(),
    };
    let header = packet.len();
    let mut message = vec![0; (size as usize).saturating_sub(header).max(8)];
    message[0] = if from.is_ipv4() { 8 } else { 128 };
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    let pseudo = if from.is_ipv4() {
        0
    } else {
        add(add(0, &packet[8..40]), &[0, 58]) + u64::try_from(message.len()).unwrap_or_default()
    };
    let sum = !fold(add(pseudo, &message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&message);
    packet
}

/// The kernel writes the checksum and the identification of this header.
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, size: u32) -> Vec<u8> {
    let [_, _, high, low] = size.to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, HOPS, 1, 0, 0];
    header.extend_from_slice(&from.octets());
    header.extend_from_slice(&to.octets());
    header
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, size: u32) -> Vec<u8> {
    let [_, _, high, low] = size.saturating_sub(40).to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, 58, HOPS];
    header.extend_from_slice(&from.octets());
    header.extend_from_slice(&to.octets());
    header
}

/// The sequence number, if these bytes answer a request of this id. IPv4's come with their network header.
pub(super) fn answer(bytes: &[u8], v4: bool, id: u16) -> Option<u16> {
    let start = if v4 { usize::from(bytes.first()? & 0x0f) * 4 } else { 0 };
    let message = bytes.get(start..start + 8)?;
    let is_ours = message[..2] == [if v4 { 0 } else { 129 }, 0] && message[4..6] == id.to_be_bytes();
    is_ours.then(|| u16::from_be_bytes([message[6], message[7]]))
}

fn add(sum: u64, bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    sum + bytes.chunks(2).map(word).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(from: &str, to: &str, size: usize, answer_kind: u8) {
        let ends: [IpAddr; 2] = [from, to].map(|text| text.parse().expect("an address"));
        let packet = request(ends[0], ends[1], size as u32, (7, 9));
        assert_eq!(packet.len(), size);
        let (v4, header) = if ends[0].is_ipv4() { (true, 20) } else { (false, 40) };
        let pseudo = if v4 { 0 } else { add(58 + (size as u64 - 40), &packet[8..40]) };
        assert_eq!(fold(add(pseudo, &packet[header..])), 0xffff, "the checksum");
        let mut back = packet[if v4 { 0 } else { header }..].to_vec();
        assert_eq!(answer(&back, v4, 7), None, "a request is no answer");
        let kind = back.len() - (size - header);
        back[kind] = answer_kind;
        assert_eq!((answer(&back, v4, 7), answer(&back, v4, 8)), (Some(9), None));
        assert_eq!(answer(&back[..kind + 4], v4, 7), None);
    }

    #[test]
    fn requests_and_answers() {
        check("192.0.2.1", "192.0.2.2", 1_500, 0);
        check("2001:db8::1", "2001:db8::2", 1_501, 129);
        check("192.0.2.1", "192.0.2.2", 576, 0);
    }
}
