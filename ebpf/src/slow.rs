//! The stages of the slow path as programs, in the order of `abi::map::STAGES`. Each takes up where another left off,
//! for every hook alike.
use crate::{
    finish::{discard, finish, new_flow},
    hook::{go_on, scratch},
    packet::Skb,
    tables::Maps,
};
use abi::{DropReason, event::Hook};
use aya_ebpf::{bindings::TC_ACT_SHOT, macros::classifier, programs::TcContext};
use datapath::{Stage, State, Step, conntrack, hook, policy, record, route};

#[classifier]
pub fn slow_flow(context: TcContext) -> i32 {
    run(&context, Stage::Flow, |skb, state| conntrack::resume(&Maps, skb, state))
}

#[classifier]
pub fn slow_new(context: TcContext) -> i32 {
    run(&context, Stage::New, |skb, state| hook::begin(&Maps, skb, state))
}

#[classifier]
pub fn slow_policy(context: TcContext) -> i32 {
    run(&context, Stage::Policy, |_, state| policy::judge(&Maps, state))
}

#[classifier]
pub fn slow_route(context: TcContext) -> i32 {
    run(&context, Stage::Route, |skb, state| route::choose(&Maps, skb, state))
}

#[classifier]
pub fn slow_record(context: TcContext) -> i32 {
    run(&context, Stage::Record, |skb, state| record::keep(&Maps, skb, state))
}

#[inline(always)]
fn run(
    context: &TcContext,
    stage: Stage,
    body: impl FnOnce(&Skb, &mut State) -> Result<Step, DropReason>,
) -> i32 {
    let skb = Skb::new(context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let at = hook_of(state);
    match body(&skb, state) {
        Ok(Step::Done(outcome)) => {
            if matches!(stage, Stage::Record) {
                new_flow(&skb, at, state);
            }
            finish(&skb, at, &state.packet, outcome)
        }
        Err(reason) => discard(&skb, at, &state.packet, reason, Some(state)),
        Ok(Step::Slow(next)) => {
            go_on(context, next);
            discard(&skb, at, &state.packet, DropReason::TableMissing, Some(state))
        }
    }
}

#[inline(always)]
fn hook_of(state: &State) -> Hook {
    match state.hook {
        0 => Hook::FromPod,
        1 => Hook::ToPod,
        2 => Hook::FromHost,
        3 => Hook::FromOverlay,
        4 => Hook::FromNetdev,
        _ => Hook::ToNetdev,
    }
}
