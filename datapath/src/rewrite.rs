//! The last stage of every way: a flow's row → verdict and edits.
use crate::{Kernel, Outcome, Packet, Stage, State, Step, Tables, limit, native, too_big};
use abi::{
    Addr, DropReason,
    config::VNI_POD,
    flow::{DECREMENT, FlowValue, Leg, NEXT_NIC, NEXT_NODE, NEXT_POD, PAIRED, Tuple},
    pod::QUEUED,
    route::NATIVE,
};

/// What the row says about a packet of this direction.
#[inline(always)]
pub fn plan(
    tables: &impl Tables,
    kernel: &impl Kernel,
    value: &FlowValue,
    direction: usize,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<(), DropReason> {
    outcome.edits.to = value.to;
    outcome.edits.translate = value.flags & PAIRED != 0;
    go(tables, kernel, &value.legs[direction & 1], packet, outcome)
}

/// The same on the slow path: leaves it to [`finish`].
#[inline(always)]
pub fn leave(state: &mut State, way: Leg, to: Tuple, flags: u32) -> Step {
    state.way = way;
    state.to = to;
    state.translate = u32::from(flags & PAIRED != 0);
    Step::Slow(Stage::Finish)
}

/// The last stage of the slow path.
#[inline(always)]
pub fn finish(
    tables: &impl Tables,
    kernel: &impl Kernel,
    state: &State,
    outcome: &mut Outcome,
) -> Result<(), DropReason> {
    limit::spend(tables, state.sender, state.packet.len, state.now)?;
    outcome.edits.to = state.to;
    outcome.edits.translate = state.translate != 0;
    go(tables, kernel, &state.way, &state.packet, outcome)
}

#[inline(always)]
fn go(
    tables: &impl Tables,
    kernel: &impl Kernel,
    leg: &Leg,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<(), DropReason> {
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
            // Asked of the node's row for each packet: flows change over as soon as the row does.
            if native::in_use(tables) && outcome.vni == VNI_POD {
                let v4 = packet.tuple.src.is_v4();
                if node.says(NATIVE, v4) {
                    outcome.next = NEXT_NIC;
                    outcome.ifindex = tables.setting(|s| &s.nic_ifindex);
                    outcome.tunnel = node.next(v4);
                }
            }
        }
        NEXT_NIC => outcome.ifindex = leg.target,
        _ => {}
    }
    // All that most packets ever see of this.
    if packet.len > too_big::ALWAYS_FITS { too_big::check(tables, kernel, leg, packet, outcome) } else { Ok(()) }
}
