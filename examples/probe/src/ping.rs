//! One ICMP echo through a raw socket (containers have NET_RAW by default), else through a ping socket.
use std::{
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

/// Sets apart the echoes of one process.
static SEQUENCE: AtomicU16 = AtomicU16::new(1);

/// Sends one echo request and waits for its answer; the caller bounds the time.
pub async fn echo(host: IpAddr) -> io::Result<()> {
    let v6 = host.is_ipv6();
    // Tokio's datagram socket asks nothing that an ICMP socket does not answer.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(open(v6)?))?;
    socket.connect((host, 0)).await?;
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let identifier = process::id() as u16 ^ sequence.rotate_left(8);
    socket.send(&request(v6, identifier, sequence)).await?;
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], v6, sequence) {
            return Ok(());
        }
    }
}

/// A ping socket needs no capability but must be allowed by a sysctl; a raw one is the other way round.
fn open(v6: bool) -> io::Result<OwnedFd> {
    let (family, protocol) =
        if v6 { (AddressFamily::Inet6, SockProtocol::IcmpV6) } else { (AddressFamily::Inet, SockProtocol::Icmp) };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = socket(family, SockType::Raw, flags, protocol);
    Ok(raw.or_else(|_| socket(family, SockType::Datagram, flags, protocol))?)
}

fn request(v6: bool, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = if v6 { 128 } else { 8 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(b"weft-probe-echo!");
    if !v6 {
        // The kernel fills in ICMPv6's.
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// True for an echo reply with our sequence number and text; a raw IPv4 socket shows the IP header as well.
fn answers(packet: &[u8], v6: bool, sequence: u16) -> bool {
    let raw = !v6 && packet.first().is_some_and(|byte| byte >> 4 == 4);
    let header = if raw { usize::from(packet[0] & 0x0f) * 4 } else { 0 };
    let kind = if v6 { 129 } else { 0 };
    let Some(icmp) = packet.get(header..) else { return false };
    icmp.len() >= 24 && icmp[0] == kind && icmp[6..8] == sequence.to_be_bytes() && icmp[8..24] == *b"weft-probe-echo!"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_zero_and_is_no_answer() {
        let packet = request(false, 7, 9);
        assert_eq!(checksum(&packet), 0);
        assert!(!answers(&packet, false, 9));
    }

    #[tokio::test]
    async fn loopback_answers() {
        echo("127.0.0.1".parse().unwrap()).await.unwrap();
    }
}
