//! What a scenario says: a packet goes in here, and this comes out.
use abi::{
    Addr, DropReason,
    config::{OVERLAY_SOURCE_MAC, VNI_POD, VNI_SERVICE},
    event::Hook,
    flow::{FlowKey, Tuple},
};
use datapath::{
    hook,
    kernel::Tunnel,
    parse::{ETHERNET, ICMP, ICMPV6, TCP, UDP},
    sim::{
        Node,
        frame::{Make, layout, sums_right},
    },
};
use std::{cell::Cell, net::SocketAddr};

use super::world;

thread_local! {
    /// Scenarios are told in IPv4's addresses; in a thread of this family each stands for [`six`] of it.
    static V6: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's scenario is one of IPv6.
pub(crate) fn v6() -> bool {
    V6.get()
}

/// From here on this thread speaks this family.
pub(crate) fn speak(v6: bool) {
    V6.set(v6);
}

/// The IPv6 address that an IPv4 address of the scenarios stands for; prefixes keep their bits.
pub(crate) fn six(v4: Addr) -> Addr {
    Addr([u32::from_ne_bytes([0xfd, 0, 0, 0]), 0, 0, v4.v4_word()])
}

/// In IPv6's scenarios.
fn mapped(addr: Addr) -> Addr {
    if v6() && addr.is_v4() { six(addr) } else { addr }
}

/// What was seen of a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Pass,
    Pod(u32),
    Host,
    Encap(Addr, u32),
    Reply,
    Nic(u32),
    /// Out by the NIC to this next hop.
    Native(Addr),
    Drop(DropReason),
}

/// Something that takes packets: the model, or the programs in the kernel.
pub(crate) trait Bench {
    /// The scenarios are those of IPv6.
    const V6: bool = false;
    fn start(node: Node) -> Self;
    fn change(&mut self, change: impl FnOnce(&mut Node));
    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>);
    /// Evicts a row of `HALFOPEN`, which must be there.
    fn evict(&mut self, key: &FlowKey);
    /// A second goes by for what is half-open: TCP sends again what nobody has answered.
    fn wait(&mut self);
}

/// The same bench in IPv6.
pub(crate) struct Six<B>(B);

impl<B: Bench> Bench for Six<B> {
    const V6: bool = true;

    fn start(node: Node) -> Six<B> {
        Six(B::start(node))
    }

    fn change(&mut self, change: impl FnOnce(&mut Node)) {
        self.0.change(change);
    }

    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>) {
        self.0.send(at, ifindex, bytes, tunnel)
    }

    fn evict(&mut self, key: &FlowKey) {
        self.0.evict(key);
    }

    fn wait(&mut self) {
        self.0.wait();
    }
}

/// Where a packet comes in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Pod(u32),
    ToPod(u32),
    Host,
    Overlay(&'static str),
    Service(&'static str),
    /// By the overlay from an address as it is written.
    Plain(&'static str),
    Nic,
    ToNic,
}

impl From {
    fn place(self) -> (Hook, u32, Option<Tunnel>) {
        let tunnel = |node: &str, vni| Some(Tunnel { source: addr(node), vni });
        match self {
            From::Pod(ifindex) => (Hook::FromPod, ifindex, None),
            From::ToPod(ifindex) => (Hook::ToPod, ifindex, None),
            From::Host => (Hook::FromHost, world::NET, None),
            From::Overlay(node) => (Hook::FromOverlay, world::OVERLAY, tunnel(node, VNI_POD)),
            From::Service(node) => (Hook::FromOverlay, world::OVERLAY, tunnel(node, VNI_SERVICE)),
            From::Plain(node) => {
                let source = node.parse::<std::net::IpAddr>().unwrap().into();
                (Hook::FromOverlay, world::OVERLAY, Some(Tunnel { source, vni: VNI_POD }))
            }
            From::Nic => (Hook::FromNetdev, world::NIC, None),
            From::ToNic => (Hook::ToNetdev, world::NIC, None),
        }
    }
}

pub(crate) fn addr(text: &str) -> Addr {
    mapped(text.parse::<std::net::IpAddr>().unwrap().into())
}

/// `"10.0.0.1:80 > 10.0.0.2:90"`; a port of `*` is 0.
pub(crate) fn tuple(text: &str) -> Tuple {
    let (src, dst) = text.split_once(" > ").unwrap();
    let end = |text: &str| text.replace('*', "0").parse::<SocketAddr>().unwrap();
    let (src, dst) = (end(src), end(dst));
    Tuple {
        src: mapped(src.ip().into()),
        dst: mapped(dst.ip().into()),
        sport: src.port().to_be(),
        dport: dst.port().to_be(),
    }
}

/// The number of this family's ICMP.
pub(crate) fn icmp() -> u8 {
    if v6() { ICMPV6 } else { ICMP }
}

pub(crate) const SYN: u8 = 2;
pub(crate) const SYN_ACK: u8 = 0x12;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN: u8 = 0x11;
pub(crate) const RST: u8 = 4;

/// A bench with words for scenarios.
pub(crate) struct Test<B>(pub(crate) B);

impl<B: Bench> Test<B> {
    pub(crate) fn new() -> Test<B> {
        speak(B::V6);
        Test(B::start(world::node()))
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Node)) {
        self.0.change(change);
    }

    pub(crate) fn wait(&mut self) {
        self.0.wait();
    }

    pub(crate) fn make(text: &str, proto: u8, flags: u8) -> Make {
        let link = [world::GATEWAY, world::POD_MAC];
        let proto = if proto == ICMP { icmp() } else { proto };
        Make { tuple: tuple(text), proto, flags, ttl: 64, link, unsummed: false, extensions: &[] }
    }

    #[track_caller]
    pub(crate) fn tcp(&mut self, from: From, text: &str, flags: u8) -> Got {
        self.send(from, &Self::make(text, TCP, flags))
    }

    #[track_caller]
    pub(crate) fn udp(&mut self, from: From, text: &str) -> Got {
        self.send(from, &Self::make(text, UDP, 0))
    }

    #[track_caller]
    pub(crate) fn ping(&mut self, from: From, text: &str) -> Got {
        self.send(from, &Self::make(text, ICMP, if v6() { 128 } else { 8 }))
    }

    #[track_caller]
    pub(crate) fn pong(&mut self, from: From, text: &str) -> Got {
        self.send(from, &Self::make(text, ICMP, if v6() { 129 } else { 0 }))
    }

    /// Evicts the half-open row of such packets.
    #[track_caller]
    pub(crate) fn lose(&mut self, at: From, text: &str, proto: u8) {
        let side = hook::side(at.place().0 as u32);
        self.0.evict(&tuple(text).key(proto, side).0);
    }

    #[track_caller]
    pub(crate) fn send(&mut self, from: From, make: &Make) -> Got {
        self.raw(from, &make.bytes())
    }

    #[track_caller]
    pub(crate) fn raw(&mut self, from: From, sent: &[u8]) -> Got {
        let (at, ifindex, tunnel) = from.place();
        let mut sent = sent.to_vec();
        if at == Hook::FromPod && sent[6..12] == world::POD_MAC {
            sent[6..12].copy_from_slice(&world::mac(ifindex)); // The sender that every made packet has means: its own.
        }
        let (seen, bytes) = self.0.send(at, ifindex, &sent, tunnel);
        if let Seen::Drop(_) = seen {
            assert_eq!(bytes, sent, "a dropped packet is never half rewritten");
        }
        Got { seen, bytes }
    }

    /// A connection's three first packets, `there` and `back` as each side sends and sees them.
    #[track_caller]
    pub(crate) fn connect(&mut self, there: (From, &str, Seen, &str), back: (From, &str, Seen, &str)) {
        self.tcp(there.0, there.1, SYN).gives(there.2, there.3);
        self.tcp(back.0, back.1, SYN_ACK).gives(back.2, back.3);
        self.tcp(there.0, there.1, ACK).gives(there.2, there.3);
        self.tcp(back.0, back.1, ACK).gives(back.2, back.3);
        self.tcp(there.0, there.1, ACK).gives(there.2, there.3);
    }
}

/// What came out.
pub(crate) struct Got {
    pub(crate) seen: Seen,
    pub(crate) bytes: Vec<u8>,
}

impl Got {
    /// The verdict, and the packet's addresses and ports then.
    #[track_caller]
    pub(crate) fn gives(self, seen: Seen, text: &str) -> Got {
        assert_eq!((self.seen, self.text(text)), (seen, text.to_owned()));
        assert!(sums_right(&self.bytes), "checksums of {:02x?}", self.bytes);
        let (to, from) = (&self.bytes[..6], &self.bytes[6..12]);
        match seen {
            Seen::Pod(ifindex) => assert_eq!((to, from), (&world::mac(ifindex)[..], &world::GATEWAY[..])),
            Seen::Host => assert_eq!((to, from), (&world::GATEWAY[..], &world::GATEWAY[..])),
            Seen::Encap(..) => assert_eq!((to, from), (&world::GATEWAY[..], &OVERLAY_SOURCE_MAC[..])),
            _ => {}
        }
        self
    }

    /// The same for a packet whose end is not here, so that its checksum cannot be verified.
    #[track_caller]
    pub(crate) fn gives_unsummed(self, seen: Seen, text: &str) {
        assert_eq!((self.seen, self.text(text)), (seen, text.to_owned()));
    }

    #[track_caller]
    pub(crate) fn drops(self, reason: DropReason) {
        assert_eq!(self.seen, Seen::Drop(reason));
    }

    /// The source port that it left with, host byte order.
    pub(crate) fn sport(&self) -> u16 {
        let [at, _] = layout(&self.bytes, ETHERNET).ports();
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub(crate) fn ttl(&self) -> u8 {
        self.bytes[layout(&self.bytes, ETHERNET).ttl]
    }

    /// The packet's ends, with `*` where the expectation has it.
    fn text(&self, expected: &str) -> String {
        let (b, layout) = (&self.bytes, layout(&self.bytes, ETHERNET));
        let wild = expected.split(" > ").map(|end| end.ends_with(":*")).collect::<Vec<_>>();
        let end = |ip: &std::ops::Range<usize>, port: usize, wild: bool| {
            let (prefix, v4) = b[ip.clone()].split_at(ip.len() - 4);
            assert!(prefix.is_empty() || prefix == &six(Addr::ANY).bytes()[..12], "an address of the scenarios");
            let port = u16::from_be_bytes([b[port], b[port + 1]]);
            let port = if wild { "*".to_owned() } else { port.to_string() };
            format!("{}.{}.{}.{}:{port}", v4[0], v4[1], v4[2], v4[3])
        };
        let [sport, dport] = layout.ports();
        format!("{} > {}", end(&layout.src, sport, wild[0]), end(&layout.dst, dport, wild[1]))
    }
}
