//! Flow look-up: [`established`] is the hook program's own path, [`resume`] the first stage of the slow one.
//!
//! A row is believed only while everything that it was judged by is unchanged: its device, the generations of both
//! pods and of its backend, the policy epoch, its time. Otherwise it is judged anew in its original direction, whoever
//! asks, and replaced whole by `record`.
use crate::{
    Kernel, Outcome, Packet, Stage, State, Step, Tables, admit,
    hook::{device, side},
    limit,
    parse::{self, KIND_ERROR, TCP},
    rewrite,
    tables::Touch,
    timeout,
};
use abi::{
    Addr, DropReason,
    event::Hook,
    flow::{
        FIN, FlowKey, FlowValue, Leg, NEXT_HOST, NEXT_NODE, NEXT_POD, PAIRED, PROMOTED, RST, SEEN, SIDE_STACK,
        SIDE_WIRE, TWIN_STACK, Tuple,
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
        && entry.legs[direction & 1].device == device(tables, hook, packet.ifindex)
        && current(tables, &entry, epoch)
        && backend_current(tables, &entry)
        && !timeout::over(tables, &entry, packet.proto, entry.last, now)
        && (hook != Hook::FromOverlay || admit::tunnel_agrees(tables, kernel, &entry.legs[1 - (direction & 1)]));
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

/// The pod behind the way back of a packet: at `from_pod` the one that sent it.
#[inline(always)]
fn sender(back: &Leg) -> PodId {
    if back.next == NEXT_POD { back.target } else { NONE }
}

/// The row was judged under this epoch, and both ends are who they were.
#[inline(always)]
fn current(tables: &impl Tables, value: &FlowValue, epoch: u64) -> bool {
    value.epoch == epoch && same_generation(tables, &value.legs[0]) && same_generation(tables, &value.legs[1])
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
    value.backend == 0
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
    Touch { seen: seen << (direction & 1), now, bytes: u64::from(packet.len) }
}

/// The key of a row's other half.
#[inline(always)]
pub fn twin_key(value: &FlowValue, proto: u8) -> FlowKey {
    let side = if value.flags & TWIN_STACK == 0 { SIDE_WIRE } else { SIDE_STACK };
    value.to.reversed().key(proto, side).0
}

/// Look-up in both tables. Promotion does not delete from `HALFOPEN`, so a double miss asks `FLOWS` once more.
#[inline(always)]
fn find<T: Tables>(tables: &T, key: &FlowKey) -> Option<T::Entry> {
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
        return value.last;
    }
    let twin = twin_key(value, proto);
    let other = find(tables, &twin).map_or(0, |entry| entry.last);
    if other > value.last { other } else { value.last }
}

/// The row's time is over for both halves.
#[inline(always)]
pub fn expired(tables: &impl Tables, value: &FlowValue, proto: u8, now: u64) -> bool {
    timeout::over(tables, value, proto, value.last, now)
        && timeout::over(tables, value, proto, last_of_both(tables, value, proto), now)
}

/// Delete a flow, both halves, from both tables.
#[inline(always)]
fn forget(tables: &impl Tables, key: &FlowKey, value: &FlowValue, proto: u8) {
    if value.flags & PAIRED != 0 {
        let twin = twin_key(value, proto);
        remove(tables, &twin);
    }
    remove(tables, key);
}

/// Delete a row from both tables.
#[inline(always)]
pub fn remove(tables: &impl Tables, key: &FlowKey) {
    tables.remove_flow(key);
    tables.remove_half_open(key);
}

/// First stage of the slow path: a half-open flow, one that must be judged anew, or none.
#[inline(always)]
pub fn resume(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Step, DropReason> {
    let packet = &state.packet;
    let (key, direction) = packet.tuple.key(packet.proto, side(state.hook));
    let found = if state.missed != 0 { find_again(tables, &key) } else { find(tables, &key) };
    let Some(entry) = found else {
        state.missed = 2;
        return Ok(Step::Slow(Stage::New));
    };
    state.missed = 0;
    if entry.legs[direction & 1].device != state.device {
        return Ok(Step::Slow(Stage::New));
    }
    if state.at(Hook::FromPod) {
        state.sender = sender(&entry.legs[1 - (direction & 1)]);
    }
    if state.at(Hook::FromOverlay) && !admit::tunnel_agrees(tables, kernel, &entry.legs[1 - (direction & 1)]) {
        return Ok(Step::Slow(Stage::New)); // `admit` says what is wrong with it.
    }
    if packet.kind == KIND_ERROR {
        return error(tables, state, &entry, direction);
    }
    let forward = direction & 1 == entry.forward();
    let over = expired(tables, &entry, packet.proto, state.now)
        || (packet.opens() && entry.seen & (FIN | FIN << 1 | RST | RST << 1) != 0)
        || (forward && !backend_current(tables, &entry));
    if over {
        forget(tables, &key, &entry, packet.proto);
        return Ok(Step::Slow(Stage::New));
    }
    if packet.opens() || !current(tables, &entry, state.epoch) {
        if !prepare(tables, state, &entry, direction) {
            forget(tables, &key, &entry, state.packet.proto);
            return Ok(Step::Slow(Stage::New));
        }
        return Ok(Step::Slow(Stage::Policy));
    }
    tables.touch(&entry, touch(&state.packet, direction, state.now));
    if entry.flags & PROMOTED == 0 && proven(tables, state, &entry, direction) {
        promote(tables, state, &key);
    }
    Ok(rewrite::leave(state, entry.legs[direction & 1], entry.to, entry.flags))
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

/// Moves a flow into `FLOWS` once it has proven itself: TCP when the handshake is complete, others after packets both
/// ways over two seconds. If the table is full, the flow stays where it can be evicted.
#[inline(always)]
fn promote(tables: &impl Tables, state: &mut State, key: &FlowKey) {
    let Some(entry) = tables.half_open(key) else {
        return;
    };
    state.value = *entry;
    state.value.flags |= PROMOTED;
    if state.value.flags & PAIRED == 0 {
        if state.value.seen & (SEEN | SEEN << 1) == SEEN | SEEN << 1 {
            tables.put_flow(key, &state.value);
        }
        return;
    }
    let twin_key = twin_key(&state.value, state.packet.proto);
    let Some(twin) = tables.half_open(&twin_key) else {
        return;
    };
    state.twin = *twin;
    state.twin.flags |= PROMOTED;
    if state.twin.seen & (SEEN | SEEN << 1) == 0 || !tables.put_flow(&twin_key, &state.twin) {
        return; // Nothing has come back yet, or there is no room.
    }
    if !tables.put_flow(key, &state.value) {
        tables.remove_flow(&twin_key);
    }
}

#[inline(always)]
fn proven(tables: &impl Tables, state: &State, value: &FlowValue, direction: usize) -> bool {
    let packet = &state.packet;
    if packet.proto == TCP {
        return direction & 1 == value.forward() && packet.tcp & (parse::SYN | parse::RST | parse::ACK) == parse::ACK;
    }
    let hz = u64::from(tables.setting(|s| &s.jiffies_per_second));
    state.now.saturating_sub(value.created) >= timeout::DATAGRAM_PROMOTE * hz
}
