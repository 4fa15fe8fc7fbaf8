//! Flow look-up: [`established`] is the hook program's own path, [`resume`] the first stage of the slow one.
//!
//! A row is believed only while everything that it was judged by is unchanged: its device, the generations of both
//! pods and of its backend, the policy epoch, its time. Otherwise it is judged anew in its original direction, whoever
//! asks, and replaced whole by `record`.
use crate::{
    Kernel, Outcome, Packet, Stage, State, Step, Tables, admit,
    hook::{device, side},
    limit, native,
    parse::{self, KIND_ERROR},
    promote::{promote, proven},
    rewrite,
    tables::Touch,
    timeout,
};
use abi::{
    Addr, DropReason,
    event::Hook,
    flow::{
        BALANCED, FIN, FlowKey, FlowValue, Leg, NEXT_HOST, NEXT_NODE, NEXT_POD, PAIRED, PROMOTED, RST, SEEN, TURNS,
        Tuple,
    },
    pod::{HOST, NONE, PodId, READY},
    service::ALIVE,
};

/// A packet of a flow in `FLOWS` that nothing has changed about: one look-up, and out.
#[inline(always)]
pub fn established(
    hook: Hook,
    tables: &impl Tables,
    kernel: &impl Kernel,
    packet: &Packet,
    outcome: &mut Outcome,
) -> Result<Step, DropReason> {
    let epoch = tables.epoch(); // Before any look-up.
    let (key, direction) = packet.tuple.key(packet.proto, side(hook as u32));
    let Some(entry) = tables.flow(&key) else {
        return Ok(Step::Unknown);
    };
    let now = kernel.now();
    let known = !packet.opens()
        && comes_by(tables, (hook as u32, device(tables, hook, packet.ifindex)), packet, &entry.legs, direction)
        && current(tables, &entry, epoch)
        && backend_current(tables, &entry)
        && in_time(tables, &entry, packet.proto, direction, now)
        && (hook != Hook::FromOverlay || from_its_node(tables, kernel, &entry.legs[1 - (direction & 1)]));
    if !known {
        return Ok(Step::Slow(Stage::Flow));
    }
    if hook == Hook::FromPod {
        limit::spend(tables, sender(&entry.legs[1 - (direction & 1)]), packet.len, now)?;
    }
    tables.touch(&entry, touch(packet, direction, now));
    rewrite::plan((tables, hook), kernel, &entry, direction, packet, outcome)?;
    Ok(Step::Done)
}

/// The packet came by the device that the row names. Another node's packets come by the overlay or, if that is expected
/// of it, without an outer header; a row names the overlay for both, so that a node may change its ways at any time.
#[inline(always)]
fn comes_by(
    tables: &impl Tables,
    (hook, device): (u32, u32),
    packet: &Packet,
    legs: &[Leg; 2],
    direction: usize,
) -> bool {
    let named = legs[direction & 1].device;
    let bare = hook == Hook::FromNetdev as u32;
    named == device || (bare && native::agrees(tables, named, &legs[1 - (direction & 1)], &packet.tuple.src))
}

#[inline(always)]
fn from_its_node(tables: &impl Tables, kernel: &impl Kernel, back: &Leg) -> bool {
    let Some(tunnel) = kernel.tunnel() else {
        return false;
    };
    admit::tunnel_agrees(tables, &tunnel.source, tunnel.vni, back)
}

/// The pod behind the way back of a packet: at `from_pod` the one that sent it.
#[inline(always)]
fn sender(back: &Leg) -> PodId {
    if back.next == NEXT_POD { back.target } else { NONE }
}

/// The row was judged under this epoch, and both ends are who they were.
#[inline(always)]
fn current(tables: &impl Tables, value: &FlowValue, epoch: u64) -> bool {
    value.epoch == epoch as u32 && same_generation(tables, &value.legs[0]) && same_generation(tables, &value.legs[1])
}

#[inline(always)]
fn same_generation(tables: &impl Tables, leg: &Leg) -> bool {
    generation(tables, leg) == leg.generation
}

/// The generation that the leg's target has now.
#[inline(always)]
pub fn generation(tables: &impl Tables, leg: &Leg) -> u32 {
    match leg.next {
        NEXT_POD => tables.pod(leg.target).map_or(0, |pod| pod.generation),
        NEXT_NODE => tables.node(leg.target).map_or(0, |node| node.generation),
        _ => 0,
    }
}

#[inline(always)]
fn backend_current(tables: &impl Tables, value: &FlowValue) -> bool {
    value.flags & BALANCED == 0
        || tables
            .backend(value.backend)
            .is_some_and(|b| b.generation == value.backend_generation && b.flags & ALIVE != 0)
}

/// What the packet leaves in its row.
#[inline(always)]
pub fn touch(packet: &Packet, direction: usize, now: u64) -> Touch {
    let mut seen = SEEN;
    if packet.tcp & parse::FIN != 0 {
        seen |= FIN;
    }
    if packet.tcp & parse::RST != 0 {
        seen |= RST;
    }
    Touch { direction: direction & 1, seen: seen << (direction & 1), now, bytes: u64::from(packet.len) }
}

/// The key of a row's other half.
#[inline(always)]
pub fn twin_key(value: &FlowValue, proto: u8) -> FlowKey {
    value.to.reversed().key(proto, value.twin_side()).0
}

/// Look-up in both tables. A row that moves is written to where it goes before it leaves where it was, either way; so a
/// double miss asks `FLOWS` once more.
#[inline(always)]
pub fn find<T: Tables>(tables: &T, key: &FlowKey) -> Option<T::Entry> {
    if let Some(entry) = tables.flow(key) {
        return Some(entry);
    }
    find_again(tables, key)
}

/// The same after a look-up in `FLOWS` that found nothing.
#[inline(always)]
fn find_again<T: Tables>(tables: &T, key: &FlowKey) -> Option<T::Entry> {
    if let Some(entry) = tables.half_open(key) {
        return Some(entry);
    }
    tables.flow(key)
}

/// The last packet of either half.
#[inline(always)]
fn last_of_both(tables: &impl Tables, value: &FlowValue, proto: u8) -> u64 {
    if value.flags & PAIRED == 0 {
        return value.last();
    }
    let twin = twin_key(value, proto);
    let (own, other) = (value.last(), find(tables, &twin).map_or(0, |entry| entry.last()));
    if other > own { other } else { own }
}

/// The row's time is over for both halves.
#[inline(always)]
pub fn expired(tables: &impl Tables, value: &FlowValue, proto: u8, now: u64) -> bool {
    timeout::over(tables, value, proto, value.last(), now)
        && timeout::over(tables, value, proto, last_of_both(tables, value, proto), now)
}

/// The row's time is not over. Its packets' own direction is asked first: the other one's count is another CPU's business.
#[inline(always)]
fn in_time(tables: &impl Tables, value: &FlowValue, proto: u8, direction: usize, now: u64) -> bool {
    !timeout::over(tables, value, proto, value.count(direction).last, now)
        || !timeout::over(tables, value, proto, value.count(1 - (direction & 1)).last, now)
}

/// A SYN through a service whose backend has not answered one that went to it before. It may be lost with its node, long before
/// anybody is told: the SYN, sent again or another connection's from the same port, asks the service anew.
#[inline(always)]
fn unanswered(tables: &impl Tables, packet: &Packet, value: &FlowValue, now: u64) -> bool {
    packet.opens()
        && value.flags & (BALANCED | PROMOTED) == BALANCED
        && timeout::repeated(tables, value, now)
        && tables.half_open(&twin_key(value, packet.proto)).is_some_and(|twin| twin.seen == 0)
}

/// Delete the flow whose packets of one direction have this tuple, both halves, from both tables.
#[inline(always)]
fn forget(tables: &impl Tables, key: &FlowKey, value: &FlowValue, tuple: &Tuple) {
    if value.flags & PAIRED != 0 {
        let twin = twin_key(value, key.proto);
        if find(tables, &twin).is_some_and(|entry| is_mate(&entry, tuple, key.side)) {
            remove(tables, &twin);
        }
    }
    remove(tables, key);
}

/// The row is the other half of the flow that packets of this tuple go by under a key of this side: it turns answers into
/// answers to these very packets. If it is not, the flow that it belongs to was given the key when ours had lost it.
#[inline(always)]
pub fn is_mate(value: &FlowValue, tuple: &Tuple, side: u8) -> bool {
    value.flags & PAIRED != 0 && value.to == tuple.reversed() && value.twin_side() == side
}

/// Nothing of the flow is missing. Half-open halves are evicted one by one: a packet that went by the half that is left
/// would get an answer that nobody turns back. To look the other one up also keeps it as long as this one.
#[inline(always)]
fn whole(tables: &impl Tables, key: &FlowKey, value: &FlowValue, packet: &Packet) -> bool {
    if value.flags & (PAIRED | PROMOTED) != PAIRED {
        return true;
    }
    let twin = twin_key(value, packet.proto);
    find(tables, &twin).is_some_and(|entry| is_mate(&entry, &packet.tuple, key.side))
}

/// Delete a row from both tables. What it counted in its pod's quota comes back with the next sweep.
#[inline(always)]
pub fn remove(tables: &impl Tables, key: &FlowKey) {
    tables.remove_flow(key);
    tables.remove_half_open(key);
}

/// First stage of the slow path: a half-open flow, one that must be judged anew, or none. Runs again for each key that the flow
/// may have.
#[inline(always)]
pub fn resume(tables: &impl Tables, state: &mut State) -> Result<Step, DropReason> {
    let packet = &state.packet;
    let (key, direction) = packet.tuple.key(packet.proto, state.side());
    let missed = state.missed != 0 && state.turn == 0;
    let found = if missed { find_again(tables, &key) } else { find(tables, &key) };
    let Some(entry) = found else {
        return Ok(elsewhere(tables, state, 2));
    };
    if !comes_by(tables, (state.hook, state.device), packet, &entry.legs, direction) {
        return Ok(elsewhere(tables, state, 0));
    }
    if state.at(Hook::FromPod) {
        state.sender = sender(&entry.legs[1 - (direction & 1)]);
    }
    let back = &entry.legs[1 - (direction & 1)];
    if state.at(Hook::FromOverlay) && !admit::tunnel_agrees(tables, &state.tunnel, state.vni, back) {
        return Ok(elsewhere(tables, state, 0)); // If nobody's, `admit` says what is wrong with it.
    }
    if packet.kind == KIND_ERROR {
        return error(tables, state, &entry, direction);
    }
    let forward = direction & 1 == entry.forward();
    let over = expired(tables, &entry, packet.proto, state.now)
        || (packet.opens() && entry.seen & (FIN | FIN << 1 | RST | RST << 1) != 0)
        || (forward && (!backend_current(tables, &entry) || unanswered(tables, packet, &entry, state.now)));
    if over {
        forget(tables, &key, &entry, &packet.tuple);
        return Ok(anew(state));
    }
    if packet.opens() || !current(tables, &entry, state.epoch) || !whole(tables, &key, &entry, packet) {
        if !prepare(tables, state, &entry, direction) {
            forget(tables, &key, &entry, &state.packet.tuple);
            return Ok(anew(state));
        }
        return Ok(Step::Slow(Stage::Policy));
    }
    tables.touch(&entry, touch(&state.packet, direction, state.now));
    if entry.flags & PROMOTED == 0 && proven(tables, state, &entry, direction) {
        state.key = key;
        promote(tables, state);
    }
    Ok(rewrite::leave(state, entry.legs[direction & 1], entry.to, entry.flags))
}

/// The row under this key is not the packet's (`missed` says of the first key whether there is one): the flow may have come to
/// the key after another. How many did so at most on this node is known, so that nobody looks for them where none did.
#[inline(always)]
fn elsewhere(tables: &impl Tables, state: &mut State, missed: u32) -> Step {
    if state.turn == 0 {
        state.missed = missed;
    }
    if state.turn < TURNS && i64::from(state.turn) < tables.pod_flows(NONE) {
        state.turn += 1;
        return Step::Slow(Stage::Flow);
    }
    anew(state)
}

/// As a new flow, for which the first key is asked first.
#[inline(always)]
pub fn anew(state: &mut State) -> Step {
    state.turn = 0;
    Step::Slow(Stage::New)
}

/// An ICMP error about a flow goes where the flow's packets of that direction go, and what it quotes is translated back.
#[inline(always)]
fn error(tables: &impl Tables, state: &mut State, value: &FlowValue, direction: usize) -> Result<Step, DropReason> {
    let back = &value.legs[1 - (direction & 1)];
    if back.next == NEXT_POD
        && tables.pod(back.target).is_none_or(|pod| pod.addr(&state.packet.source) != state.packet.source)
    {
        return Err(DropReason::SpoofedSource);
    }
    Ok(rewrite::leave(state, value.legs[direction & 1], value.to, value.flags))
}

/// Sets the state so that `policy` judges the flow's original direction again. False if an end is not who it was.
#[inline(always)]
fn prepare(tables: &impl Tables, state: &mut State, value: &FlowValue, direction: usize) -> bool {
    let tuple = state.packet.tuple;
    let forward = direction & 1 == value.forward();
    let paired = value.flags & PAIRED != 0;
    let (near, far) = if paired { (tuple, value.to) } else { (tuple, tuple) };
    state.judged = if forward {
        Tuple { src: near.src, sport: near.sport, dst: far.dst, dport: far.dport }
    } else {
        Tuple { src: far.dst, sport: far.dport, dst: near.src, dport: near.sport }
    };
    let there = value.legs[value.forward() & 1];
    let back = value.legs[1 - (value.forward() & 1)];
    state.legs = [there, back];
    state.legs[0].generation = generation(tables, &there);
    state.legs[1].generation = generation(tables, &back);
    state.source = end(&back);
    state.dest = end(&there);
    state.service = value.service;
    state.renew = 1;
    still_there(tables, &there, &state.judged.dst) && still_there(tables, &back, &state.judged.src)
}

#[inline(always)]
fn end(leg: &Leg) -> u32 {
    match leg.next {
        NEXT_POD => leg.target,
        NEXT_HOST => HOST,
        _ => NONE,
    }
}

/// The leg still leads to the address.
#[inline(always)]
fn still_there(tables: &impl Tables, leg: &Leg, addr: &Addr) -> bool {
    match leg.next {
        NEXT_POD => tables.pod(leg.target).is_some_and(|pod| pod.flags & READY != 0 && pod.addr(addr) == *addr),
        NEXT_NODE => tables.node(leg.target).is_some_and(|node| node.tunnel != Addr::ANY),
        _ => true,
    }
}
