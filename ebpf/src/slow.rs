//! The stages of the slow path as programs, in the order of `abi::map::STAGES`. Each takes up where another left off,
//! for every hook alike.
use crate::{
    arp,
    finish::{count, discard, finish},
    hook::{go_on, scratch},
    kernel::setting,
    packet::Skb,
    tables::Maps,
    tell::{kept, new_flow},
};
use abi::{
    DropReason,
    config::FEATURE_LOG,
    event::{HOOKS, Hook},
    verdict::REASONS,
};
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use datapath::{
    Outcome, Stage, State, Step, conntrack, hook, neighbour, policy, record, rewrite, route,
    too_big::{self, Message},
};

#[classifier]
pub fn slow_flow(context: TcContext) -> i32 {
    // A log would not fit into its stack.
    run::<false>(&context, |skb, state| {
        let (key, _) = state.packet.tuple.key(state.packet.proto, state.side());
        Maps.take_over(&key);
        let step = conntrack::resume(&Maps, state);
        if state.kept != 0 {
            let at = state.hook & (HOOKS - 1);
            count((REASONS - state.kept) as u8, at, state.packet.len);
            kept(skb, at, state);
        }
        step
    })
}

#[classifier]
pub fn slow_new(context: TcContext) -> i32 {
    run::<true>(&context, |skb, state| hook::begin(&Maps, skb, state))
}

#[classifier]
pub fn slow_policy(context: TcContext) -> i32 {
    run::<true>(&context, |_, state| policy::judge(&Maps, state))
}

#[classifier]
pub fn slow_route(context: TcContext) -> i32 {
    run::<true>(&context, |skb, state| route::choose(&Maps, skb, state))
}

#[classifier]
pub fn slow_record(context: TcContext) -> i32 {
    run::<true>(&context, |skb, state| {
        let step = record::keep(&Maps, skb, state);
        if state.recorded != 0 {
            new_flow(skb, state.hook & (HOOKS - 1), state);
        }
        step
    })
}

#[classifier]
pub fn slow_finish(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let at = state.hook & (HOOKS - 1);
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
        Err(_) if state.lenient() => return TC_ACT_UNSPEC,
        Err(reason) => reason,
    };
    discard(&skb, state.hook, &state.packet, reason, Some(state))
}

/// Long packets on the slow path, which go on if they fit; those that do not, from either path, are dropped here, and their
/// senders told.
#[classifier]
pub fn slow_too_big(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let reason = match too_big::measure(&Maps, &skb, state) {
        Ok(_) => {
            go_on(&context, Stage::Finish);
            DropReason::TableMissing
        }
        Err(reason) => reason,
    };
    let dropped = discard(&skb, state.hook & (HOOKS - 1), &state.packet, reason, None);
    let mut message = Message::default();
    if matches!(reason, DropReason::TooBig) && too_big::answer(&Maps, &skb, state, &mut message) {
        return crate::too_big::send(&skb, state.hook, &message);
    }
    dropped
}

#[inline(always)]
fn run<const LOGS: bool>(context: &TcContext, body: impl FnOnce(&Skb, &mut State) -> Result<Step, DropReason>) -> i32 {
    let skb = Skb::new(context);
    let Some(state) = scratch() else {
        return TC_ACT_SHOT;
    };
    let step = body(&skb, state);
    // Before the last stage, whose stack has no room for it.
    if LOGS && matches!(step, Err(_) | Ok(Step::Slow(Stage::Finish | Stage::TooBig))) {
        log(context, state, step.err().map_or(0, |reason| reason as u8));
    }
    let reason = match step {
        Ok(Step::Done | Step::Unknown) => DropReason::TableMissing, // Only the last stage is done.
        Ok(Step::Slow(next)) => {
            go_on(context, next);
            DropReason::TableMissing
        }
        Err(reason) => reason,
    };
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
