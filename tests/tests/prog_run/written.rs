//! The same node with the overlay's back end `program`: outer headers come in as bytes by the NIC, and go out as bytes.
use crate::{
    KernelNode,
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test},
    cases::node2,
    world,
};
use abi::{
    Addr,
    config::{FEATURE_ENCAPSULATE, Settings, VNI_POD},
    event::Hook,
    flow::FlowKey,
    route::BY_DEVICE,
};
use datapath::{checksum, kernel::Tunnel, parse::ETHERNET, sim::Node};

/// Ethernet, and what is between outer IP header and inner one.
const SHIM: usize = 8 + 8 + ETHERNET;

pub(crate) struct Written {
    kernel: KernelNode,
    settings: Settings,
}

impl Bench for Written {
    fn start(mut node: Node) -> Written {
        node.settings.features |= FEATURE_ENCAPSULATE;
        Written { settings: node.settings, kernel: KernelNode::start(node) }
    }

    fn change(&mut self, change: impl FnOnce(&mut Node)) {
        let settings = &mut self.settings;
        self.kernel.change(|node| {
            change(node);
            *settings = node.settings;
        });
    }

    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>) {
        let Some(tunnel) = tunnel else {
            let done = self.kernel.send(at, ifindex, bytes, None);
            return self.left(bytes, done);
        };
        let outer = self.wrapped(bytes, tunnel);
        let (seen, after) = self.kernel.send(Hook::FromNetdev, world::NIC, &outer, None);
        if seen == Seen::Pass {
            assert_eq!(after, outer, "what is left to the device stays as it was");
            return self.kernel.send(at, ifindex, bytes, Some(tunnel));
        }
        self.left(bytes, (seen, after))
    }

    fn evict(&mut self, key: &FlowKey) {
        self.kernel.evict(key);
    }

    fn wait(&mut self) {
        self.kernel.wait();
    }
}

impl Written {
    fn own(&self, v4: bool) -> Addr {
        if v4 { self.settings.host4 } else { self.settings.host6 }
    }

    /// A packet as another node sends it.
    fn wrapped(&self, inner: &[u8], tunnel: Tunnel) -> Vec<u8> {
        let v4 = tunnel.source.is_v4();
        let own = self.own(v4);
        let length = (inner.len() + 16) as u16;
        let mut outer = inner[..12].to_vec();
        if v4 {
            let total = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
            header.extend([tunnel.source, own].map(|addr| addr.v4_word().to_ne_bytes()).concat());
            let sum = checksum::of(&header, 0).to_ne_bytes();
            header[10..12].copy_from_slice(&sum);
            outer.extend([0x08, 0x00]);
            outer.extend(header);
        } else {
            outer.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            outer.extend(length.to_be_bytes());
            outer.extend([17, 64]);
            outer.extend(tunnel.source.bytes());
            outer.extend(own.bytes());
        }
        outer.extend([0xc0, 0x01]);
        outer.extend(self.settings.overlay_port.to_ne_bytes());
        outer.extend(length.to_be_bytes());
        outer.extend([0, 0, 8, 0, 0, 0]);
        outer.extend((tunnel.vni << 8).to_be_bytes());
        outer.extend(inner);
        outer
    }

    /// What left, without the outer header that it must have if it goes to another node.
    fn left(&self, before: &[u8], (seen, after): (Seen, Vec<u8>)) -> (Seen, Vec<u8>) {
        let Seen::Encap(to, vni) = seen else {
            return (seen, after);
        };
        let room = SHIM + if to.is_v4() { 20 } else { 40 };
        if after.len() == before.len() {
            let tcp = before[if before[12] == 0x08 { 23 } else { 20 }] == 6;
            let fragment = before[12] == 0x08 && before[20..22] != [0, 0];
            let options = before[12] == 0x08 && before[14] != 0x45;
            assert!(!tcp || fragment || options, "TCP is not left to the device: {before:02x?}");
            return (seen, after);
        }
        assert_eq!(after.len(), before.len() + room);
        self.right(&after[ETHERNET..ETHERNET + room], &after[ETHERNET + room - ETHERNET..], to, vni);
        (seen, after[room..].to_vec())
    }

    /// An outer header as the device writes it.
    #[track_caller]
    fn right(&self, header: &[u8], inner: &[u8], to: Addr, vni: u32) {
        let own = self.own(to.is_v4());
        let length = (inner.len() + 16) as u16;
        let shim = &header[header.len() - SHIM..];
        if to.is_v4() {
            assert_eq!(checksum::of(&header[..20], 0), 0, "{header:02x?}");
            assert_eq!((header[0], header[8], header[9]), (0x45, 64, 17));
            assert_eq!(header[2..4], (length + 20).to_be_bytes());
            assert_eq!(header[6..8], [0, 0], "no DF");
            assert_eq!(header[12..16], own.v4_word().to_ne_bytes());
            assert_eq!(header[16..20], to.v4_word().to_ne_bytes());
            assert_eq!(shim[6..8], [0, 0], "no checksum");
        } else {
            assert_eq!((header[0], header[6], header[7]), (0x60, 17, 64));
            assert_eq!(header[4..6], length.to_be_bytes());
            assert_eq!(header[8..24], own.bytes());
            assert_eq!(header[24..40], to.bytes());
            let mut counted = [&header[8..40], &length.to_be_bytes(), &[0, 17], &shim[..16]].concat();
            counted.extend(inner);
            assert_ne!(shim[6..8], [0, 0], "a checksum");
            assert_eq!(checksum::of(&counted, 0), 0, "the checksum of {counted:02x?}");
        }
        let port = u16::from_be_bytes([shim[0], shim[1]]);
        assert!((32_768..61_000).contains(&port), "source port {port}");
        assert_eq!(shim[2..4], self.settings.overlay_port.to_ne_bytes());
        assert_eq!(shim[4..6], length.to_be_bytes());
        assert_eq!(shim[8..12], [8, 0, 0, 0]);
        assert_eq!(shim[12..16], (vni << 8).to_be_bytes());
    }
}

/// The same back end, but no other node is behind the NIC.
struct Elsewhere(KernelNode);

impl Bench for Elsewhere {
    fn start(mut node: Node) -> Elsewhere {
        node.settings.features |= FEATURE_ENCAPSULATE;
        node.nodes.values_mut().for_each(|row| row.flags |= BY_DEVICE);
        Elsewhere(KernelNode::start(node))
    }

    fn change(&mut self, change: impl FnOnce(&mut Node)) {
        self.0.change(change);
    }

    fn evict(&mut self, key: &FlowKey) {
        self.0.evict(key);
    }

    fn wait(&mut self) {
        self.0.wait();
    }

    fn send(&mut self, at: Hook, ifindex: u32, bytes: &[u8], tunnel: Option<Tunnel>) -> (Seen, Vec<u8>) {
        self.0.send(at, ifindex, bytes, tunnel)
    }
}

/// Nothing is written before a new flow's packet or a known one's: the device routes, and writes.
#[test]
fn what_is_behind_another_nic_is_left_to_the_device() {
    let mut t = Test::<Elsewhere>::new();
    let text = "10.244.1.2:1 > 10.244.2.2:80";
    t.tcp(From::Pod(world::A), text, SYN).gives(node2(VNI_POD), text);
    t.tcp(From::Overlay("172.31.0.12"), "10.244.2.2:80 > 10.244.1.2:1", SYN_ACK);
    t.tcp(From::Pod(world::A), text, ACK).gives(node2(VNI_POD), text);
    t.tcp(From::Pod(world::A), text, ACK).gives(node2(VNI_POD), text);
}
