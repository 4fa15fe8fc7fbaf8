//! What user space is told: one event per drop, and per new flow if that is wanted.
//!
//! At most [`PER_SECOND`] of a reason, per CPU: a flood must not cost more than the packets themselves. Counters are exact.
use crate::{
    kernel::setting,
    maps::{EVENTS, LIMITS, SWITCHES},
    packet::Skb,
};
use abi::{
    DropReason,
    config::{FEATURE_EVENTS, FEATURE_FLOW_EVENTS, TELL_FLOWS},
    event::{Event, KIND_DROP, KIND_KEPT, KIND_NEW_FLOW},
    verdict::REASONS,
};
use datapath::{Frame, Kernel, Packet, State};

/// Events of one reason in a second.
const PER_SECOND: u32 = 200;

/// A reason's budget on one CPU.
#[repr(C)]
pub struct Limit {
    /// Start of the second, in jiffies.
    since: u64,
    /// Events in it.
    told: u64,
}

/// A drop.
#[inline(always)]
pub fn drop(skb: &Skb, hook: u32, packet: &Packet, reason: DropReason, state: Option<&State>) {
    if allowed(skb, reason as u32) {
        send(skb, hook, packet, KIND_DROP, reason as u8, state);
    }
}

/// A new flow, if the node's settings want that or somebody listens. Only first packets ask.
#[inline(always)]
pub fn new_flow(skb: &Skb, hook: u32, state: &State) {
    if (setting(|s| &s.features) & FEATURE_FLOW_EVENTS != 0 || somebody_listens()) && allowed(skb, 0) {
        send(skb, hook, &state.packet, KIND_NEW_FLOW, 0, Some(state));
    }
}

/// A flow that stays where it can be evicted. Its budget is the row of the counter that it has, too.
#[inline(always)]
pub fn kept(skb: &Skb, hook: u32, state: &State) {
    let row = REASONS.wrapping_sub(state.kept) & (REASONS - 1);
    if setting(|s| &s.features) & FEATURE_EVENTS != 0 && allowed(skb, row) {
        send(skb, hook, &state.packet, KIND_KEPT, state.kept as u8, Some(state));
    }
}

#[inline(always)]
fn somebody_listens() -> bool {
    // SAFETY: a row of an array; one aligned load.
    SWITCHES.get_ptr(0).is_some_and(|row| unsafe { core::ptr::read_volatile(row) } & TELL_FLOWS != 0)
}

#[inline(always)]
fn allowed(skb: &Skb, reason: u32) -> bool {
    let Some(limit) = LIMITS.get_ptr_mut(reason) else {
        return false;
    };
    let now = skb.now();
    // SAFETY: this CPU's own row.
    unsafe {
        if now.wrapping_sub((*limit).since) > u64::from(setting(|s| &s.jiffies_per_second)) {
            (*limit).since = now;
            (*limit).told = 0;
        }
        (*limit).told += 1;
        (*limit).told <= u64::from(PER_SECOND)
    }
}

#[inline(always)]
fn send(skb: &Skb, hook: u32, packet: &Packet, kind: u8, reason: u8, state: Option<&State>) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        return; // Full: the counter has it.
    };
    let tuple = &packet.tuple;
    let mut event = Event {
        kind,
        hook: hook as u8,
        reason,
        proto: packet.proto,
        ifindex: skb.ifindex(),
        src: tuple.src,
        dst: tuple.dst,
        sport: tuple.sport,
        dport: tuple.dport,
        backend: tuple.dst,
        backend_port: tuple.dport,
        len: skb.len(),
        ..Event::default()
    };
    if let Some(state) = state {
        event.src_pod = state.source;
        event.dst_pod = state.dest;
        event.rule = if reason == DropReason::PolicyDeniedIngress as u8 { state.rules[1] } else { state.rules[0] };
        event.backend = state.flow.dst;
        event.backend_port = state.flow.dport;
    }
    entry.write(event);
    entry.submit(0);
}
