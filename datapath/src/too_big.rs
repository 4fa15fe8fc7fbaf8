//! Packets that do not fit their way, and what their senders are told (RFC 792, RFC 1191; RFC 4443 section 3.2).
//!
//! Comes after every other decision, at the end of both paths, and only for packets that are longer than every way's least:
//! [`check`] on the established one, the stage [`measure`] on the slow one. Rows of `NODES` say what fits towards each node, so
//! what a way adds is accounted for where the rows are compiled, and not here. [`answer`] makes the message, which is written
//! in place over the packet, whose first bytes it quotes as the sender wrote them.
use crate::{
    Frame, Kernel, Outcome, Packet, Stage, State, Step, Tables, checksum, native,
    parse::{ETHERNET, ICMP, ICMPV6, KIND_FLOW, LATER, TCP, UDP},
};
use abi::{
    Addr, DropReason,
    event::Hook,
    flow::{Leg, NEXT_NIC, NEXT_NODE, NEXT_POD},
    pod::QUEUED,
    route::{LEAST_MTU, NODE_ADDRESS, SPLITS},
};

/// Bytes, link header included, that fit every way: no way has less than IPv6's least MTU.
pub const ALWAYS_FITS: u32 = ETHERNET as u32 + LEAST_MTU;
/// Bytes of the packet that are quoted: the headers, IPv4's with all of its options, and more than the eight bytes after.
pub const QUOTE: usize = 120;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// As Linux limits all of its own ICMP messages (`icmp_msgs_per_sec`), but here for each pod.
const PER_SECOND: u64 = 1_000;
/// At once, after a while without any (`icmp_msgs_burst`).
const BURST: u64 = 50;

/// The headers of the message, as words in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// The network header and eight bytes of ICMP.
    pub words: [u32; 12],
    /// Bytes of them: 28 or 48.
    pub len: usize,
    /// The quoted checksum as it has to be, where somebody may still complete it: see [`fixed`].
    pub sum: u16,
    /// Where that is, from the link header of the packet as it came; 0 if it stays as its sender wrote it.
    pub sum_at: u32,
}

/// With what would fit: the packet does not, and may be split by the overlay device.
const MAY_SPLIT: u32 = 1 << 31;

/// On the established path: refuses a packet that does not fit the way of `leg`.
#[inline(always)]
pub fn check(
    (tables, hook): (&impl Tables, Hook),
    kernel: &impl Kernel,
    leg: &Leg,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<(), DropReason> {
    let mtu = exceeded((tables, hook as u32), kernel, leg, packet);
    if mtu & MAY_SPLIT != 0 {
        outcome.queued = true;
    }
    if mtu == 0 || mtu & MAY_SPLIT != 0 {
        return Ok(());
    }
    outcome.ifindex = mtu;
    Err(DropReason::TooBig)
}

/// The stage of the slow path, and of what the established one has refused already.
#[inline(always)]
pub fn measure(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Step, DropReason> {
    if state.mtu == 0 {
        let mtu = exceeded((tables, state.hook), kernel, &state.way, &state.packet);
        state.oversize = u32::from(mtu & MAY_SPLIT != 0);
        if mtu == 0 || mtu & MAY_SPLIT != 0 {
            return Ok(Step::Slow(Stage::Finish));
        }
        state.mtu = mtu;
    }
    Err(DropReason::TooBig)
}

/// 0 if the packet fits the way of `leg`, else how much would, perhaps with [`MAY_SPLIT`].
#[inline(always)]
fn exceeded((tables, hook): (&impl Tables, u32), kernel: &impl Kernel, leg: &Leg, packet: &Packet) -> u32 {
    let (mtu, splits) = match leg.next {
        NEXT_NODE => match tables.node(leg.target) {
            // Nobody behind the programs splits what goes without an outer header.
            Some(node) if native::goes(tables, node, leg, packet) => (node.bare_mtu(), false),
            Some(node) => (node.overlay_mtu(), node.flags & SPLITS != 0),
            None => (0, false),
        },
        // The one NIC whose MTU is known; another one's is the kernel's business.
        NEXT_NIC if leg.target == tables.setting(|s| &s.nic_ifindex) => {
            tables.node(tables.setting(|s| &s.node)).map_or((0, false), |node| (node.mtu, false))
        }
        // Without a queue the pod gets it past its device, whatever its size.
        NEXT_POD => {
            tables.pod(leg.target).map_or((0, false), |pod| (if pod.flags & QUEUED == 0 { 0 } else { pod.mtu }, false))
        }
        _ => (0, false),
    };
    if mtu == 0 || kernel.segment(packet) <= mtu + ETHERNET as u32 {
        return 0;
    }
    // A node's own stack must not learn this of another node's address: its tunnel has the same. The device does what it can.
    let far = match hook {
        hook if hook == Hook::ToNetdev as u32 => &packet.tuple.dst,
        hook if hook == Hook::FromNetdev as u32 => &packet.source,
        _ => &Addr::ANY,
    };
    if *far != Addr::ANY && is_node(tables, far) {
        return 0;
    }
    // What a backend of this node answers is split by the device where it can, forbidden or not: it fits the wire.
    if hook == Hook::ToNetdev as u32 && splits {
        return 0;
    }
    if splits && packet.v6 == 0 && !kernel.dont_fragment() { mtu | MAY_SPLIT } else { mtu }
}

#[inline(always)]
fn is_node(tables: &impl Tables, addr: &Addr) -> bool {
    tables.route(addr).is_some_and(|route| route.flags & NODE_ADDRESS != 0)
}

/// Fills in what the sender is told of its packet; false if it must not be told, or has been told enough.
///
/// IPv4 packets that could have been split are answered like others: nothing on this way splits them, and a sender that
/// splits by itself (Linux does for large datagrams) then makes smaller pieces.
#[inline(always)]
pub fn answer(tables: &impl Tables, frame: &impl Frame, state: &State, message: &mut Message) -> bool {
    let packet = &state.packet;
    // RFC 1122 section 3.2.2, RFC 4443 section 2.4: nothing about errors, and nothing that cannot name its flow.
    if packet.kind != KIND_FLOW || packet.fragment == LATER || packet.len < (ETHERNET + QUOTE) as u32 {
        return false;
    }
    // What came by the overlay cannot be answered by the device that it came by.
    if state.at(Hook::FromOverlay) || state.at(Hook::ToPod) {
        return false;
    }
    let (mut quoted, mut transport) = (0, 0);
    let mut at = ETHERNET;
    while at < ETHERNET + QUOTE {
        let Some(word) = frame.far_word(at) else {
            return false;
        };
        quoted += u64::from(word);
        transport += if at as u32 >= packet.l4 { u64::from(word) } else { 0 };
        at += 4;
    }
    quoted += fixed(frame, packet, transport, message);
    if !may_tell(tables, tables.pod_of(&packet.source), state.now) {
        return false;
    }
    let from = speaker(tables, state);
    if packet.v6 != 0 {
        ipv6(&from, &packet.source, state.mtu, quoted, message);
    } else {
        ipv4(&from, &packet.source, state.mtu, quoted, message);
    }
    true
}

/// Makes the quoted checksum one that nobody can change any more: what this adds to the sum of the quoted bytes.
///
/// A packet whose checksum its sender has left to a device carries its pseudo header's sum there. No helper takes that state
/// off a packet, so a device without the offload would complete the checksum in the middle of the message, after the
/// message's own was worked out, and the receiver would believe nothing. Whoever completes writes the complement of the sum
/// of all bytes from the transport header on, the field in it: of the one value that is the complement of that sum itself
/// (minus half of the sum of the rest; the modulus is odd) nothing changes. A checksum that is complete is left alone.
#[inline(always)]
fn fixed(frame: &impl Frame, packet: &Packet, transport: u64, message: &mut Message) -> u64 {
    let at = packet.l4
        + match packet.proto {
            TCP => 16,
            UDP => 6,
            _ => return 0,
        };
    if at + 4 > (ETHERNET + QUOTE) as u32 {
        return 0;
    }
    let Some(word) = frame.far_word(at as usize) else {
        return 0;
    };
    let [a, b, ..] = word.to_ne_bytes();
    let old = u16::from_ne_bytes([a, b]);
    if old != pseudo(packet) {
        return 0;
    }
    let rest = transport + u64::from(!old);
    let minus = u32::from(!checksum::fold16(rest));
    let new = (if minus & 1 == 0 { minus } else { minus + 0xffff } >> 1) as u16;
    (message.sum, message.sum_at) = (new, at);
    u64::from(new) + u64::from(!old)
}

/// The sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), in memory order.
#[inline(always)]
fn pseudo(packet: &Packet) -> u16 {
    let (src, dst) = (&packet.source, &packet.tuple.dst);
    let mut sum = u64::from((packet.len - packet.l4).to_be()) + u64::from(u32::from(packet.proto).to_be());
    if packet.v6 == 0 {
        sum += u64::from(src.v4_word()) + u64::from(dst.v4_word());
    } else {
        sum += u64::from(src.0[0]) + u64::from(src.0[1]) + u64::from(src.0[2]) + u64::from(src.0[3]);
        sum += u64::from(dst.0[0]) + u64::from(dst.0[1]) + u64::from(dst.0[2]) + u64::from(dst.0[3]);
    }
    checksum::fold16(sum)
}

/// Who says it: the node. The host takes nothing from its own address, and gets it from the hairpin's; so does a pod of a
/// family that the node has no address of.
#[inline(always)]
fn speaker(tables: &impl Tables, state: &State) -> Addr {
    let v6 = state.packet.v6 != 0;
    let own = if v6 { tables.setting(|s| &s.host6) } else { tables.setting(|s| &s.host4) };
    if state.at(Hook::FromHost) || state.at(Hook::ToNetdev) || own == Addr::ANY {
        return if v6 { tables.setting(|s| &s.hairpin6) } else { tables.setting(|s| &s.hairpin4) };
    }
    own
}

/// A bucket per pod, kept as [`crate::limit`] keeps its own. Whoever loses a race for it is not told this time.
#[inline(always)]
fn may_tell(tables: &impl Tables, id: u32, jiffies: u64) -> bool {
    let hertz = tables.setting(|s| &s.jiffies_per_second);
    if hertz == 0 {
        return true;
    }
    let now = jiffies.wrapping_mul(SECOND / u64::from(hertz));
    let latest = now.wrapping_add(BURST * (SECOND / PER_SECOND));
    let full = tables.replies(id);
    let next = (if full < now || full > latest { now } else { full }).wrapping_add(SECOND / PER_SECOND);
    next <= latest && tables.swap_replies(id, full, next)
}

const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// Destination unreachable, fragmentation needed (type 3, code 4); precedence as Linux gives its own.
#[inline(always)]
fn ipv4(from: &Addr, to: &Addr, mtu: u32, quoted: u64, message: &mut Message) {
    const LENGTH: [u8; 2] = (28 + QUOTE as u16).to_be_bytes();
    let (from, to) = (from.v4_word(), to.v4_word());
    let first = word([0x45, 0xc0, LENGTH[0], LENGTH[1]]);
    let second = word([0, 0, 0x40, 0]);
    let third = [64, ICMP, 0, 0];
    let sum = u64::from(first) + u64::from(second) + u64::from(word(third)) + u64::from(from) + u64::from(to);
    let [low, high] = (!checksum::fold16(sum)).to_ne_bytes();
    let [.., a, b] = mtu.to_be_bytes();
    let (kind, size) = (word([3, 4, 0, 0]), word([0, 0, a, b]));
    let [icmp_low, icmp_high] = (!checksum::fold16(quoted + u64::from(kind) + u64::from(size))).to_ne_bytes();
    message.words[0] = first;
    message.words[1] = second;
    message.words[2] = word([third[0], third[1], low, high]);
    message.words[3] = from;
    message.words[4] = to;
    message.words[5] = word([3, 4, icmp_low, icmp_high]);
    message.words[6] = size;
    message.len = 28;
}

/// Packet too big (type 2).
#[inline(always)]
fn ipv6(from: &Addr, to: &Addr, mtu: u32, quoted: u64, message: &mut Message) {
    const LENGTH: [u8; 2] = (8 + QUOTE as u16).to_be_bytes();
    let (kind, size) = (word([2, 0, 0, 0]), mtu.to_be());
    let mut sum = quoted + u64::from(kind) + u64::from(size);
    sum += u64::from(word([0, 0, LENGTH[0], LENGTH[1]])) + u64::from(word([0, 0, 0, ICMPV6]));
    sum += u64::from(from.0[0]) + u64::from(from.0[1]) + u64::from(from.0[2]) + u64::from(from.0[3]);
    sum += u64::from(to.0[0]) + u64::from(to.0[1]) + u64::from(to.0[2]) + u64::from(to.0[3]);
    let [low, high] = (!checksum::fold16(sum)).to_ne_bytes();
    message.words[0] = word([0x60, 0, 0, 0]);
    message.words[1] = word([LENGTH[0], LENGTH[1], ICMPV6, 64]);
    message.words[2] = from.0[0];
    message.words[3] = from.0[1];
    message.words[4] = from.0[2];
    message.words[5] = from.0[3];
    message.words[6] = to.0[0];
    message.words[7] = to.0[1];
    message.words[8] = to.0[2];
    message.words[9] = to.0[3];
    message.words[10] = word([2, 0, low, high]);
    message.words[11] = size;
    message.len = 48;
}
