//! The last stage of every way: a flow's row → verdict and edits.
use crate::{Kernel, Outcome, Packet, Stage, State, Step, Tables, limit, native, too_big};
use abi::{
    Addr, DropReason,
    event::Hook,
    flow::{DECREMENT, FlowValue, Leg, NEXT_NIC, NEXT_NODE, NEXT_POD, PAIRED, Tuple},
    pod::QUEUED,
    route::{ADJACENT, BY_DEVICE},
};

/// What the row says about a packet of this direction.
#[inline(always)]
pub fn plan(
    (tables, hook): (&impl Tables, Hook),
    kernel: &impl Kernel,
    value: &FlowValue,
    direction: usize,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<(), DropReason> {
    outcome.edits.translate = value.flags & PAIRED != 0;
    if outcome.edits.translate {
        outcome.edits.to = value.to;
    }
    let leg = &value.legs[direction & 1];
    go(tables, leg, packet, outcome)?;
    // All that most packets ever see of this.
    if packet.len > too_big::ALWAYS_FITS {
        too_big::check((tables, hook), kernel, leg, packet, outcome)
    } else {
        Ok(())
    }
}

/// The same on the slow path: leaves it to [`finish`], and whether it fits to [`too_big::measure`].
#[inline(always)]
pub fn leave(state: &mut State, way: Leg, to: Tuple, flags: u16) -> Step {
    state.way = way;
    state.to = to;
    state.translate = u32::from(flags & PAIRED != 0);
    Step::Slow(if state.packet.len > too_big::ALWAYS_FITS { Stage::TooBig } else { Stage::Finish })
}

/// The last stage of the slow path.
#[inline(always)]
pub fn finish(tables: &impl Tables, state: &State, outcome: &mut Outcome) -> Result<(), DropReason> {
    limit::spend(tables, state.sender, state.packet.len, state.now)?;
    outcome.edits.to = state.to;
    outcome.edits.translate = state.translate != 0;
    outcome.queued = state.oversize != 0;
    go(tables, &state.way, &state.packet, outcome)
}

#[inline(always)]
fn go(tables: &impl Tables, leg: &Leg, packet: &Packet, outcome: &mut Outcome) -> Result<(), DropReason> {
    let missing = DropReason::TableMissing;
    outcome.edits.decrement = leg.flags & DECREMENT != 0;
    if outcome.edits.decrement && packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    outcome.next = leg.next;
    match leg.next {
        NEXT_POD => {
            let pod = tables.pod(leg.target).ok_or(missing)?;
            outcome.ifindex = pod.ifindex;
            outcome.mac = pod.mac;
            outcome.queued = pod.flags & QUEUED != 0;
        }
        NEXT_NODE => {
            let node = tables.node(leg.target).ok_or(missing)?;
            if node.tunnel == Addr::ANY {
                return Err(missing);
            }
            outcome.tunnel = node.tunnel;
            outcome.vni = u32::from(leg.vni);
            outcome.queued |= node.flags & BY_DEVICE != 0;
            outcome.near = node.flags & ADJACENT != 0;
            // Asked of the node's row for each packet: flows change over as soon as the row does.
            if native::goes(tables, node, leg, packet) {
                outcome.next = NEXT_NIC;
                outcome.ifindex = tables.setting(|s| &s.nic_ifindex);
                outcome.tunnel = node.next(packet.v6 == 0);
            }
        }
        NEXT_NIC => outcome.ifindex = leg.target,
        _ => {}
    }
    Ok(())
}
