//! The stages of the slow path as programs, in the order of `abi::map::STAGES`. Each takes up where another left off,
//! for every hook alike.
use crate::{
    finish::{discard, finish},
    hook::{go_on, scratch},
    kernel::setting,
    packet::Skb,
    tables::Maps,
    tell::new_flow,
};
use abi::{DropReason, config::FEATURE_LOG, event::HOOKS};
use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use aya_log_ebpf::debug;
use datapath::{Outcome, State, Step, conntrack, hook, policy, record, rewrite, route};

#[classifier]
pub fn slow_flow(context: TcContext) -> i32 {
    run(&context, |skb, state| conntrack::resume(&Maps, skb, state))
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
    log(&context, state, 0);
    let mut outcome = Outcome::default();
    match rewrite::finish(&Maps, state, &mut outcome) {
        Ok(()) => finish(&skb, at, &state.packet, &outcome),
        Err(reason) => discard(&skb, at, &state.packet, reason, Some(state)),
    }
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
            go_on(context, next);
            DropReason::TableMissing
        }
        Err(reason) => reason,
    };
    log(context, state, reason as u8);
    discard(&skb, state.hook, &state.packet, reason, Some(state))
}

/// What becomes of a packet (reason 0: it goes), for people who debug the datapath itself.
#[inline(always)]
fn log(context: &TcContext, state: &State, reason: u8) {
    if setting(|s| &s.features) & FEATURE_LOG == 0 {
        return;
    }
    let (from, to) = (&state.packet.tuple, &state.flow);
    debug!(
        context,
        "hook {} proto {}: {:i} {} > {:i} {} as {:i} {}: drop reason {}",
        state.hook,
        state.packet.proto,
        from.src.bytes(),
        u16::from_be(from.sport),
        from.dst.bytes(),
        u16::from_be(from.dport),
        to.dst.bytes(),
        u16::from_be(to.dport),
        reason,
    );
}
