//! The stages of the slow path as programs, in the order of `abi::map::STAGES`. Each takes up where another left off,
//! for every hook alike.
use crate::{
    arp,
    finish::{discard, finish},
    hook::{go_on, scratch},
    kernel::setting,
    packet::Skb,
    tables::Maps,
    tell::new_flow,
};
use abi::{
    DropReason,
    config::FEATURE_LOG,
    event::{HOOKS, Hook},
};
use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use datapath::{Outcome, Stage, State, Step, conntrack, hook, neighbour, policy, record, rewrite, route};

#[classifier]
pub fn slow_flow(context: TcContext) -> i32 {
    run(&context, |_, state| conntrack::resume(&Maps, state))
}

#[classifier]
pub fn slow_new(context: TcContext) -> i32 {
    run(&context, |skb, state| hook::begin(&Maps, skb, state))
}

#[classifier]
pub fn slow_policy(context: TcContext) -> i32 {
    run(&context, |_, state| policy::judge(&Maps, state))
}

#[classifier]
pub fn slow_route(context: TcContext) -> i32 {
    run(&context, |skb, state| route::choose(&Maps, skb, state))
}

#[classifier]
pub fn slow_record(context: TcContext) -> i32 {
    run(&context, |skb, state| record::keep(&Maps, skb, state))
}

#[classifier]
pub fn slow_finish(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let at = state.hook & (HOOKS - 1);
    if state.recorded != 0 {
        new_flow(&skb, at, state);
    }
    let mut outcome = Outcome::default();
    match rewrite::finish(&Maps, state, &mut outcome) {
        Ok(()) => finish(&skb, at, &state.packet, &outcome),
        Err(reason) => discard(&skb, at, &state.packet, reason, Some(state)),
    }
}

/// Packets that the hook programs have only begun to read; what asks for an answer gets it here.
#[classifier]
pub fn slow_read(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    if state.at(Hook::FromPod)
        && let Some(advertisement) = neighbour::answer(&skb, setting(|s| &s.gateway_mac))
    {
        return arp::advertise(&skb, &advertisement);
    }
    let reason = match hook::read(&Maps, &skb, state) {
        Ok(_) => {
            go_on(&context, Stage::Flow);
            DropReason::TableMissing
        }
        Err(_) if state.lenient() => return TC_ACT_OK,
        Err(reason) => reason,
    };
    discard(&skb, state.hook, &state.packet, reason, Some(state))
}

#[inline(always)]
fn run(context: &TcContext, body: impl FnOnce(&Skb, &mut State) -> Result<Step, DropReason>) -> i32 {
    let skb = Skb::new(context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let reason = match body(&skb, state) {
        Ok(Step::Done | Step::Unknown) => DropReason::TableMissing, // Only the last stage is done.
        Ok(Step::Slow(next)) => {
            if next == Stage::Finish {
                log(context, state, 0); // Here, since the ways out leave no stack for it.
            }
            go_on(context, next);
            DropReason::TableMissing
        }
        Err(reason) => reason,
    };
    log(context, state, reason as u8);
    discard(&skb, state.hook, &state.packet, reason, Some(state))
}

/// What becomes of a packet (reason 0: it goes), for people who debug the datapath itself. Of an IPv6
/// address the last four bytes, as IPv4's are written: more would not fit into the stack.
#[inline(always)]
fn log(context: &TcContext, state: &State, reason: u8) {
    if setting(|s| &s.features) & FEATURE_LOG == 0 {
        return;
    }
    let (from, to) = (&state.packet.tuple, &state.flow);
    debug!(
        context,
        "hook {} proto {}: {:i}:{} > {:i}:{} as {:i}:{}: drop reason {}",
        state.hook,
        state.packet.proto,
        u32::from_be(from.src.v4_word()),
        u16::from_be(from.sport),
        u32::from_be(from.dst.v4_word()),
        u16::from_be(from.dport),
        u32::from_be(to.dst.v4_word()),
        u16::from_be(to.dport),
        reason,
    );
}
