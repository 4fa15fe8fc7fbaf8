//! Frames at every hook of a node, one after the other.
//!
//! Promises: nothing panics. A frame that cannot be read is dropped for the reason that reading gave; at the NIC, where it is
//! the host's business, it passes untouched. A dropped frame is as it came. What goes on has the length that it had, and a
//! checksum that was right is right.
//!
//! An input: one byte for the node (1: IPv6, 2: pods isolated by policy, 4: room for few flows), then frames, each with a
//! byte that says where (see [`place`]), a byte for its length, and its bytes.
use abi::{
    DropReason,
    config::{VNI_POD, VNI_SERVICE},
    event::Hook,
    pod::{ISOLATED_EGRESS, ISOLATED_INGRESS},
    policy::{EGRESS, INGRESS},
};
use datapath::{
    Packet, Stage, Verdict, hook,
    kernel::Tunnel,
    neighbour,
    parse::{FIRST, Headers, LATER, TCP, UDP, parse, whole},
    sim::{Answer, Bytes, Node},
};

use crate::{bench, sums::Sums, world};

/// Frames of one input.
const FRAMES: usize = 16;

/// One input.
pub fn run(input: &[u8]) {
    let Some((&kind, mut rest)) = input.split_first() else { return };
    let mut node = node(kind);
    for _ in 0..FRAMES {
        let Some((&[place_of, length], after)) = rest.split_first_chunk() else { return };
        let frame;
        (frame, rest) = after.split_at(after.len().min(length.into()));
        let (at, ifindex, tunnel) = place(place_of);
        if place_of & 0x80 != 0 {
            node.now += 31 * u64::from(node.settings.jiffies_per_second);
        }
        check(at, ifindex, frame, &node.run(at, ifindex, frame, tunnel));
    }
}

/// The node of the scenarios.
fn node(kind: u8) -> Node {
    bench::speak(kind & 1 != 0);
    let mut node = world::node();
    if kind & 2 != 0 {
        world::isolate(&mut node, world::POD_B, ISOLATED_INGRESS);
        world::rule(&mut node, INGRESS, 0, TCP, 8080, world::ALLOWED);
        world::isolate(&mut node, world::POD_A, ISOLATED_EGRESS);
        world::rule(&mut node, EGRESS, 0, UDP, 0, world::ALLOWED);
    }
    if kind & 4 != 0 {
        node.flow_room = Some(2);
    }
    node
}

/// Where a frame comes in: the hook (3 bits), the pod's device (2 bits), the tunnel (2 bits), and whether time passes before.
fn place(byte: u8) -> (Hook, u32, Option<Tunnel>) {
    let at = Hook::ALL[usize::from(byte & 7) % Hook::ALL.len()];
    let pods = [world::A, world::B, world::UNREADY, 999];
    let ifindex = match at {
        Hook::FromPod | Hook::ToPod => pods[usize::from(byte >> 3 & 3)],
        Hook::FromHost => world::NET,
        Hook::FromOverlay => world::OVERLAY,
        Hook::FromNetdev | Hook::ToNetdev => world::NIC,
    };
    let tunnel = |source, vni| Some(Tunnel { source: bench::addr(source), vni });
    let tunnel = match byte >> 5 & 3 {
        _ if at != Hook::FromOverlay => None,
        0 => tunnel("172.31.0.12", VNI_POD),
        1 => tunnel("172.31.0.12", VNI_SERVICE),
        2 => tunnel("172.31.0.99", VNI_POD),
        _ => None,
    };
    (at, ifindex, tunnel)
}

fn check(at: Hook, ifindex: u32, sent: &[u8], answer: &Answer) {
    if let Err(reason) = answer.verdict {
        assert_eq!(answer.frame, sent, "dropped as {}, and yet edited", reason.label());
    }
    let frame = Bytes { bytes: sent, ifindex };
    match read(&frame) {
        Ok(packet) => edited(sent, &packet, answer),
        Err(_) if hook::lenient(at) => {
            assert_eq!((&answer.verdict, &answer.frame[..]), (&Ok(Verdict::Pass), sent), "not readable at {at:?}");
        }
        // The gateway answers for itself.
        Err(DropReason::LinkChatter) if at == Hook::FromPod && neighbour::answer(&frame, world::GATEWAY).is_some() => {
            assert_eq!(answer.verdict, Ok(Verdict::Reply));
        }
        Err(reason) => assert_eq!(answer.verdict, Err(reason), "not readable at {at:?}"),
    }
}

/// The frame as both readers see it.
fn read(frame: &Bytes) -> Result<Packet, DropReason> {
    let (mut near, mut far) = (Packet::default(), Packet::default());
    match parse(frame, &mut near)? {
        Headers::Plain => {
            assert_eq!(whole(frame, &mut far), Ok(()), "the hook's reader reads what the stage's does not");
            assert_eq!(near, far, "two readers, two packets");
            Ok(near)
        }
        Headers::Far => whole(frame, &mut far).map(|()| far),
    }
}

fn edited(sent: &[u8], packet: &Packet, answer: &Answer) {
    let Ok(verdict) = answer.verdict else { return };
    assert_eq!(answer.frame.len(), sent.len(), "{verdict:?}");
    assert!((packet.l4 as usize) <= sent.len() && (packet.inner as usize) <= sent.len(), "headers beyond the frame");
    let fragment = matches!(packet.fragment, FIRST | LATER);
    assert!(!fragment || answer.stages.contains(&Stage::Read), "a fragment on the short way");
    if verdict != Verdict::Reply {
        let (before, after) = (Sums::of(sent, packet), Sums::of(&answer.frame, packet));
        assert!(after.hold_where(&before), "{verdict:?} {packet:?}: {before:?} became {after:?}");
    }
}
