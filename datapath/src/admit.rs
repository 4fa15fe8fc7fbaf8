//! Who may send this at all: the source of a packet of no known flow, per hook. Sets the state's source and way back.
//!
//! Trust comes from where a packet enters: a pod is its device, a node is its tunnel address, the host is `weft_host`.
use crate::{
    Kernel, Stage, State, Step, Tables,
    conntrack::expired,
    native,
    parse::{KIND_ERROR, TCP, UDP},
};
use abi::{
    Addr, DropReason,
    config::{VNI_POD, VNI_SERVICE},
    event::Hook,
    flow::{Leg, NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_PASS, NEXT_POD, SIDE_WIRE, Tuple},
    pod::{HOST, NONE, READY},
    route::{LOCAL, NODE_ADDRESS, NOT_MASQUERADED, NodeId},
};

/// Admits the packet (`None`: go on), or passes it on as none of ours.
#[inline(always)]
pub fn admit(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Option<Step>, DropReason> {
    state.source = NONE;
    state.legs = [Leg::default(); 2];
    state.legs[0].device = state.device;
    if state.packet.kind == KIND_ERROR && !state.lenient() {
        return Err(DropReason::StaleFlow); // About a flow that we do not know.
    }
    if state.at(Hook::FromPod) {
        from_pod(tables, kernel, state)?;
    } else if state.at(Hook::FromOverlay) {
        from_overlay(tables, state)?;
    } else if state.at(Hook::FromNetdev) {
        return from_netdev(tables, kernel, state);
    } else if state.at(Hook::ToNetdev) {
        return Ok(Some(to_netdev(tables, state)));
    } else {
        from_host(tables, state)?;
    }
    Ok(None)
}

#[inline(always)]
fn from_pod(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<(), DropReason> {
    let id = tables.pod_of(&state.packet.tuple.src);
    let pod = tables.pod(id).ok_or(DropReason::SpoofedSource)?;
    if id == NONE || pod.ifindex != state.packet.ifindex {
        return Err(DropReason::SpoofedSource);
    }
    // A known flow's packets are not asked again: whatever they say, they leave with addresses of ours.
    if pod.mac != kernel.sender() {
        return Err(DropReason::WrongMac);
    }
    if pod.flags & READY == 0 {
        return Err(DropReason::PodNotReady);
    }
    if state.packet.proto == UDP && serves_dhcp(&state.packet.tuple) {
        return Err(DropReason::RogueDhcp);
    }
    if state.packet.proto == UDP && state.packet.tuple.dport == tables.setting(|s| &s.overlay_port) {
        let to_node = tables.route(&state.packet.tuple.dst).is_some_and(|route| route.flags & NODE_ADDRESS != 0);
        if to_node {
            return Err(DropReason::PodToOverlay);
        }
    }
    state.source = id;
    state.sender = id;
    state.legs[1] = Leg { target: id, generation: pod.generation, next: NEXT_POD, ..Leg::default() };
    Ok(())
}

/// From a DHCP server's port to a client's, of either family.
#[inline(always)]
fn serves_dhcp(tuple: &Tuple) -> bool {
    let ports = (u16::from_be(tuple.sport), u16::from_be(tuple.dport));
    ports == (67, 68) || ports == (547, 546)
}

#[inline(always)]
fn from_host(tables: &impl Tables, state: &mut State) -> Result<(), DropReason> {
    let id = tables.pod_of(&state.packet.tuple.src);
    if id != NONE && id != HOST {
        return Err(DropReason::SpoofedSource);
    }
    state.source = id; // NONE: what the host forwards for others.
    state.legs[1] = Leg { next: NEXT_HOST, ..Leg::default() };
    Ok(())
}

#[inline(always)]
fn from_overlay(tables: &impl Tables, state: &mut State) -> Result<(), DropReason> {
    let bad = DropReason::OverlaySource;
    let asked = if state.vni == VNI_SERVICE { state.tunnel } else { state.packet.tuple.src };
    if state.vni != VNI_SERVICE && state.vni != VNI_POD {
        return Err(bad);
    }
    let route = tables.route(&asked).ok_or(bad)?;
    if state.vni == VNI_SERVICE && route.flags & NODE_ADDRESS == 0 {
        return Err(bad);
    }
    let node = tables.node(route.node).ok_or(bad)?;
    if route.node == 0 || node.flags & LOCAL != 0 || node.tunnel != state.tunnel {
        return Err(bad);
    }
    state.legs[1] = to_node(route.node, node.generation, state.vni);
    Ok(())
}

/// A leg to another node.
#[inline(always)]
pub fn to_node(node: NodeId, generation: u32, vni: u32) -> Leg {
    Leg { target: node, generation, next: NEXT_NODE, vni: vni as u16, ..Leg::default() }
}

/// For a packet of a known flow: its outer source is the node that the flow's way back leads to.
#[inline(always)]
pub fn tunnel_agrees(tables: &impl Tables, source: &Addr, vni: u32, back: &Leg) -> bool {
    back.next == NEXT_NODE
        && u32::from(back.vni) == vni
        && tables.node(back.target).is_some_and(|node| node.tunnel == *source)
}

#[inline(always)]
fn from_netdev(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Option<Step>, DropReason> {
    if state.packet.kind == KIND_ERROR {
        return Ok(Some(Step::Slow(Stage::Finish)));
    }
    if native::admit(tables, kernel, state)? {
        return Ok(None);
    }
    if is_ours(tables, &state.packet.tuple.src) {
        return Err(DropReason::OwnAddressFromOutside);
    }
    let nic = tables.setting(|s| &s.nic_ifindex);
    state.legs[1] = Leg { target: nic, next: NEXT_NIC, ..Leg::default() };
    Ok(None)
}

/// An address that nobody outside may have: a pod's, a service's, or one of this node's own.
#[inline(always)]
fn is_ours(tables: &impl Tables, addr: &Addr) -> bool {
    if tables.pod_of(addr) != NONE {
        return true;
    }
    tables.route(addr).is_some_and(|route| route.flags & (NODE_ADDRESS | NOT_MASQUERADED) == 0)
}

/// What the host's stack sends out: ours only if a pod's masqueraded flow holds its addresses and ports. Then the
/// source port moves, so that the replies can be told apart.
#[inline(always)]
fn to_netdev(tables: &impl Tables, state: &mut State) -> Step {
    let packet = &state.packet;
    let first = tables.setting(|s| &s.masquerade_first);
    let last = tables.setting(|s| &s.masquerade_last);
    let port = u16::from_be(packet.tuple.sport);
    let pass = Step::Slow(Stage::Finish);
    if packet.kind == KIND_ERROR || port < first || port > last || (packet.proto == TCP && !packet.opens()) {
        return pass;
    }
    let (key, direction) = packet.tuple.key(packet.proto, SIDE_WIRE);
    let held = match tables.flow(&key) {
        Some(entry) => holds(tables, &entry, direction, packet.proto, state.now),
        None => tables.half_open(&key).is_some_and(|entry| holds(tables, &entry, direction, packet.proto, state.now)),
    };
    if !held {
        return pass;
    }
    let nic = tables.setting(|s| &s.nic_ifindex);
    state.source = HOST;
    state.masquerade = 1;
    state.judged = state.flow;
    state.legs[0].next = NEXT_PASS;
    state.legs[1] = Leg { next: NEXT_PASS, device: nic, ..Leg::default() };
    Step::Slow(Stage::Record)
}

/// A row takes replies for this packet's source to somebody else.
#[inline(always)]
fn holds(tables: &impl Tables, value: &abi::flow::FlowValue, direction: usize, proto: u8, now: u64) -> bool {
    value.legs[1 - (direction & 1)].device != 0 && !expired(tables, value, proto, now)
}
