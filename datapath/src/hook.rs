//! Which stage follows which, for every hook: the table of contents of the datapath.
//!
//! A hook program is [`enter`]; what it cannot finish goes on as `Slow(stage)`, and [`run_stage`] (in the kernel: one
//! tail-called program per stage) goes from there.
use crate::{
    Frame, Kernel, Outcome, Packet, Stage, State, Step, Tables, admit, conntrack, fragment,
    parse::{self, UDP},
    policy, record, rewrite, route, service, too_big,
};
use abi::{
    DropReason,
    event::Hook,
    flow::{SIDE_STACK, SIDE_WIRE, STACK},
};

/// Whether a packet that cannot be read is passed on: what the NIC hooks do not understand is the host's business.
#[inline(always)]
pub fn lenient(hook: Hook) -> bool {
    matches!(hook, Hook::FromNetdev | Hook::ToNetdev)
}

/// The side of flow keys at a hook.
#[inline(always)]
pub fn side(hook: u32) -> u8 {
    if hook == Hook::ToNetdev as u32 { SIDE_STACK } else { SIDE_WIRE }
}

/// The device as flows name it. `from_pod`'s is the packet's own; every other hook has one name, whatever the device.
#[inline(always)]
pub fn device(tables: &impl Tables, hook: Hook, ifindex: u32) -> u32 {
    match hook {
        Hook::FromPod => ifindex,
        Hook::ToPod | Hook::FromHost => tables.setting(|s| &s.host_ifindex),
        Hook::FromOverlay => tables.setting(|s| &s.overlay_ifindex),
        Hook::FromNetdev => tables.setting(|s| &s.nic_ifindex),
        Hook::ToNetdev => tables.setting(|s| &s.nic_ifindex) | STACK,
    }
}

/// The hook program: the whole way of an established flow.
#[inline(always)]
pub fn enter(
    hook: Hook,
    tables: &impl Tables,
    kernel: &impl Kernel,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<Step, DropReason> {
    if lenient(hook) && is_overlay(tables, packet) {
        return Ok(Step::Done); // The overlay device takes it, or it leaves: `from_overlay` judges it.
    }
    conntrack::established(hook, tables, kernel, packet, outcome)
}

/// The overlay's own packets between nodes.
#[inline(always)]
fn is_overlay(tables: &impl Tables, packet: &Packet) -> bool {
    packet.proto == UDP && packet.tuple.dport == tables.setting(|s| &s.overlay_port)
}

/// A packet that the hook program has only begun to read.
#[inline(always)]
pub fn read(tables: &impl Tables, frame: &impl Frame, state: &mut State) -> Result<Step, DropReason> {
    parse::whole(frame, &mut state.packet)?;
    if state.packet.fragment != parse::WHOLE {
        fragment::follow(tables, state)?;
    }
    Ok(Step::Slow(Stage::Flow))
}

/// A packet of no known flow: who sent it, and to whom does it really go?
#[inline(always)]
pub fn begin(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Step, DropReason> {
    state.flow = state.packet.tuple;
    if let Some(step) = admit::admit(tables, kernel, state)? {
        return Ok(step);
    }
    let found = service::translate(tables, kernel, state)?;
    if !found && state.at(Hook::FromNetdev) && !state.from_node() {
        return Ok(Step::Slow(Stage::Finish)); // Nothing of ours: on its way.
    }
    state.judged = state.flow;
    state.dest = tables.pod_of(&state.flow.dst);
    Ok(Step::Slow(Stage::Policy))
}

/// One stage, by number.
pub fn run_stage(
    stage: Stage,
    tables: &impl Tables,
    kernel: &impl Kernel,
    state: &mut State,
    outcome: &mut Outcome,
) -> Result<Step, DropReason> {
    match stage {
        Stage::Read | Stage::Decapsulate => Err(DropReason::TableMissing), // Want the bytes: [`read`].
        Stage::Flow => conntrack::resume(tables, state),
        Stage::New => begin(tables, kernel, state),
        Stage::Policy => policy::judge(tables, state),
        Stage::Route => route::choose(tables, kernel, state),
        Stage::Record => record::keep(tables, kernel, state),
        Stage::Finish => rewrite::finish(tables, state, outcome).map(|()| Step::Done),
        Stage::TooBig => too_big::measure(tables, kernel, state),
    }
}
