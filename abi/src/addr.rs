//! Addresses: IPv4 and IPv6 in one 16-byte form, so that there is one path and no twin of it.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IP address in network byte order as it lies in memory; IPv4 is mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Addr(pub [u32; 4]);

/// Third word of a mapped IPv4 address.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Addr {
    /// No address; the wildcard of the node-port keys of IPv4.
    pub const ANY: Addr = Addr([0; 4]);
    /// The wildcard of the node-port keys of IPv6: all ones, which no packet has as its address.
    pub const ANY6: Addr = Addr([u32::MAX; 4]);

    /// The wildcard of the node-port keys of a family.
    #[inline(always)]
    pub const fn wildcard(v4: bool) -> Addr {
        if v4 { Addr::ANY } else { Addr::ANY6 }
    }

    /// From the four bytes of an IPv4 header's field, as a native load gives them.
    #[inline(always)]
    pub const fn v4(network_order: u32) -> Addr {
        Addr([0, 0, MAPPED, network_order])
    }

    /// From octets, most significant first.
    pub const fn from_octets(octets: [u8; 4]) -> Addr {
        Addr::v4(u32::from_ne_bytes(octets))
    }

    /// From the sixteen bytes of an IPv6 address.
    pub const fn from_bytes(b: [u8; 16]) -> Addr {
        Addr([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// True for a mapped IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == MAPPED
    }

    /// The IPv4 header field (network byte order); meaningless unless [`Addr::is_v4`].
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.0[3]
    }

    /// The sixteen bytes, most significant first.
    pub fn bytes(&self) -> [u8; 16] {
        zerocopy::transmute!(self.0)
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(ip: core::net::IpAddr) -> Addr {
        match ip {
            core::net::IpAddr::V4(v4) => Addr::from_octets(v4.octets()),
            core::net::IpAddr::V6(v6) => Addr::from_bytes(v6.octets()),
        }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(addr: Addr) -> core::net::IpAddr {
        core::net::IpAddr::V6(core::net::Ipv6Addr::from(addr.bytes())).to_canonical()
    }
}

impl core::fmt::Debug for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl core::fmt::Display for Addr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&core::net::IpAddr::from(*self), f)
    }
}

/// Key of the LPM tables: the first `prefix_len` bits of `addr` count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Prefix {
    /// Bits that count, 0 to 128; a mapped IPv4 prefix of n bits has 96 + n.
    pub prefix_len: u32,
    /// Network byte order.
    pub addr: Addr,
}

impl Prefix {
    /// Key of a look-up: the whole address.
    #[inline(always)]
    pub const fn host(addr: Addr) -> Prefix {
        Prefix { prefix_len: 128, addr }
    }
}

const _: () = assert!(size_of::<Addr>() == 16 && size_of::<Prefix>() == 20);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[track_caller]
    fn check(text: &str, v4: bool) {
        extern crate std;
        use std::string::ToString;
        let ip: IpAddr = text.parse().unwrap();
        let addr = Addr::from(ip);
        assert_eq!(addr.is_v4(), v4);
        assert_eq!(addr.to_string(), text);
    }

    #[test]
    fn text_and_back() {
        check("10.244.1.7", true);
        check("0.0.0.0", true);
        check("fd00::1", false);
        check("2001:db8::ff", false);
    }
}
