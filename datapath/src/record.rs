//! The last stage of the slow path: the flow's row or rows are written, and the packet goes its way by them.
//!
//! For a translated flow the half of the answers is inserted first and only if its key is free: that insert *is* the
//! reservation of the port. If the key is taken: another backend, else another source port.
use crate::{
    Kernel, Stage, State, Step, Tables,
    conntrack::{anew, expired, find, is_mate, remove, touch, twin_key},
    hook::side,
    parse::{TCP, is_icmp},
    rewrite,
};
use abi::{
    DropReason,
    config::VNI_SERVICE,
    event::Hook,
    flow::{
        BALANCED, Count, FlowKey, FlowValue, INITIATOR_HIGH, Leg, NEXT_HOST, NEXT_NODE, NEXT_POD, PAIRED, PROMOTED,
        SIDE_STACK, SIDE_WIRE, STACK, TURNS, TWIN_STACK, TWIN_TURN,
    },
    pod::NONE,
    service::{SCOPE_HOST_PORT, ServiceKey},
};

/// Source ports that are tried before the flow is refused.
const TRIES: u32 = 8;
/// Backends that are tried before the source port is changed.
const BACKENDS: u32 = 2;

/// The stage.
#[inline(always)]
pub fn keep(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Step, DropReason> {
    let (key, direction) = state.packet.tuple.key(state.packet.proto, state.side());
    if state.renew != 0 {
        return renew(tables, state, &key, direction);
    }
    if taken(tables, state, &key, direction) {
        return next_turn(tables, state);
    }
    let translated = state.flow != state.packet.tuple || state.masquerade != 0 || state.turn != 0;
    let paired = translated || state.legs[1].device & STACK != 0;
    fresh(state, direction);
    if paired {
        if !reserve(tables, kernel, state) {
            return again(state);
        }
        half(state, direction);
    }
    state.recorded = 1;
    if state.missed != 2 || state.turn != 0 {
        tables.remove_flow(&key); // Or it would be found before the new row.
    }
    if !tables.put_half_open(&key, &state.value) && paired {
        return Err(DropReason::FlowTableFull);
    }
    if !paired {
        hold(tables, &key);
    }
    Ok(rewrite::leave(state, state.value.legs[direction & 1], state.value.to, state.value.flags))
}

/// The key is another flow's, which lives and keeps it. Of a flow whose packets look the same that is known only when it began
/// at another node; any other comes by another way now, and its row is replaced.
#[inline(always)]
fn taken(tables: &impl Tables, state: &State, key: &FlowKey, direction: usize) -> bool {
    if state.missed == 2 && state.turn == 0 {
        return false;
    }
    let Some(entry) = find(tables, key) else {
        return false;
    };
    if over(tables, state, key, &entry) {
        return false;
    }
    if state.turn != 0 || entry.legs[direction & 1].device == 0 {
        return true;
    }
    let forwarded = state.vni == VNI_SERVICE || u32::from(entry.legs[1 - (direction & 1)].vni) == VNI_SERVICE;
    let begins = state.packet.proto != TCP || state.packet.opens();
    state.at(Hook::FromOverlay) && forwarded && begins
}

/// The next key that the flow may have.
#[inline(always)]
fn next_turn(tables: &impl Tables, state: &mut State) -> Result<Step, DropReason> {
    if state.turn >= TURNS {
        return Err(DropReason::NoPort);
    }
    state.turn += 1;
    if i64::from(state.turn) > tables.pod_flows(NONE) {
        tables.add_pod_flows(NONE, 1);
    }
    Ok(Step::Slow(Stage::Record))
}

/// A row for the packet's own key, serving both directions.
#[inline(always)]
fn fresh(state: &mut State, direction: usize) {
    let touch = touch(&state.packet, direction, state.now);
    let value = &mut state.value;
    *value = FlowValue::default();
    value.flags = if direction & 1 == 0 { 0 } else { INITIATOR_HIGH };
    if state.backend != 0 {
        value.flags |= BALANCED;
    }
    value.legs[direction & 1] = state.legs[0];
    value.legs[1 - (direction & 1)] = state.legs[1];
    value.backend = state.backend;
    value.backend_generation = state.backend_generation;
    value.epoch = state.epoch as u32;
    value.service = state.service;
    value.rules = state.rules;
    value.seen = touch.seen;
    value.created = touch.now;
    value.set_count(direction, Count { last: touch.now, packets: 1, bytes: touch.bytes });
}

/// Turns that row into the half of the way there.
#[inline(always)]
fn half(state: &mut State, direction: usize) {
    state.value.flags |= PAIRED;
    if state.legs[1].device & STACK != 0 {
        state.value.flags |= TWIN_STACK;
    }
    state.value.to = state.flow;
    state.value.legs[1 - (direction & 1)].device = 0;
}

/// The reply key is taken: another backend, else another source port. One try per program run, since a loop here
/// would cost the verifier a million instructions.
#[inline(always)]
fn again(state: &mut State) -> Result<Step, DropReason> {
    if state.backend != 0 && state.attempt < BACKENDS {
        state.attempt += 1;
        return Ok(Step::Slow(Stage::New));
    }
    if state.tries >= TRIES {
        return Err(DropReason::NoPort);
    }
    state.tries += 1;
    Ok(Step::Slow(Stage::Record))
}

/// Inserts the half of the answers; false if its key is taken.
#[inline(always)]
fn reserve(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> bool {
    let twin_side = if state.legs[1].device & STACK != 0 { SIDE_STACK } else { SIDE_WIRE };
    let proto = state.packet.proto;
    if state.tries > 0 || state.masquerade != 0 {
        another_port(tables, state, kernel.random());
        if is_promised(tables, state) {
            return false;
        }
    }
    let answer = state.flow.reversed();
    // Answers that come by the NIC to an address of this node could be a host socket's.
    if state.legs[1].device == tables.setting(|s| &s.nic_ifindex) && kernel.socket_takes(&answer, proto) {
        return false;
    }
    let (key, direction) = answer.key(proto, twin_side);
    answer_half(state, direction);
    if !tables.reserve_half_open(&key, &state.twin) {
        if let Some(entry) = tables.half_open(&key)
            && !vacate(tables, state, &key, &entry)
        {
            return false;
        }
        tables.remove_half_open(&key);
        if !tables.reserve_half_open(&key, &state.twin) {
            return false;
        }
    }
    hold(tables, &key);
    // Asked after the insert: a promotion writes here before it leaves the other table.
    let Some(entry) = tables.flow(&key) else {
        return true;
    };
    if vacate(tables, state, &key, &entry) {
        tables.remove_flow(&key);
        return true;
    }
    tables.remove_half_open(&key);
    false
}

/// Keeps the row that the answer will ask for. The kernel takes rows that nobody has looked up yet out of the whole table
/// first, however new they are, once those that were looked up are the most; what was looked up goes in its turn. Of a
/// translated flow's other half the answer would make a new one.
#[inline(always)]
fn hold(tables: &impl Tables, key: &FlowKey) {
    let _ = tables.half_open(key);
}

/// A candidate for the source port, from the masquerade range.
#[inline(always)]
fn another_port(tables: &impl Tables, state: &mut State, random: u32) {
    let first = u32::from(tables.setting(|s| &s.masquerade_first));
    let count = u32::from(tables.setting(|s| &s.masquerade_last)).wrapping_sub(first).wrapping_add(1) & 0xffff;
    let port = if count == 0 { first } else { first + random % count };
    state.flow.sport = (port as u16).to_be();
    if is_icmp(state.packet.proto) {
        state.flow.dport = state.flow.sport; // The identifier.
    }
}

/// True if the candidate is a host port, or may be a node port where the two ranges meet: who asks there must not be taken
/// for the flow's other end.
#[inline(always)]
fn is_promised(tables: &impl Tables, state: &State) -> bool {
    let (addr, port, proto) = (state.flow.src, state.flow.sport, state.packet.proto);
    let number = u16::from_be(port);
    if number >= tables.setting(|s| &s.node_port_first) && number <= tables.setting(|s| &s.node_port_last) {
        return true;
    }
    tables.service(&ServiceKey { addr, port, proto, scope: SCOPE_HOST_PORT }).is_some()
}

/// Whether nobody needs the row any more: it is our own, or expired.
#[inline(always)]
fn vacate(tables: &impl Tables, state: &State, key: &FlowKey, value: &FlowValue) -> bool {
    is_mate(value, &state.packet.tuple, state.side()) || over(tables, state, key, value)
}

/// Whether the row's time is over. Then its other half goes, which must not find ours, unless that key is another flow's by now.
#[inline(always)]
fn over(tables: &impl Tables, state: &State, key: &FlowKey, value: &FlowValue) -> bool {
    if !expired(tables, value, key.proto, state.now) {
        return false;
    }
    if value.flags & PAIRED != 0 {
        let twin = twin_key(value, key.proto);
        let served = key.tuple(usize::from(value.legs[0].device == 0));
        if find(tables, &twin).is_some_and(|entry| is_mate(&entry, &served, key.side)) {
            remove(tables, &twin);
        }
    }
    true
}

/// Flags of the half whose twin is `state.value`.
#[inline(always)]
fn twin_flags(state: &State, high: bool) -> u16 {
    let initiator = if high { INITIATOR_HIGH } else { 0 };
    let stack = if side(state.hook) == SIDE_STACK { TWIN_STACK } else { 0 };
    PAIRED | initiator | stack | state.value.flags & BALANCED | (state.turn << TWIN_TURN) as u16
}

/// The half of the answers, for a packet of this direction in its own key.
#[inline(always)]
fn answer_half(state: &mut State, direction: usize) {
    let flags = twin_flags(state, direction & 1 == 0);
    let twin = &mut state.twin;
    *twin = state.value;
    twin.flags = flags;
    twin.to = state.packet.tuple.reversed();
    twin.legs[direction & 1] = state.legs[1];
    twin.legs[1 - (direction & 1)] = state.legs[0];
    twin.legs[1 - (direction & 1)].device = 0;
    twin.seen = 0;
    twin.set_count(direction, Count { last: state.now, packets: 0, bytes: 0 });
}

/// A flow that was judged anew: same translation, same ways; epoch, generations and rules of now.
#[inline(always)]
fn renew(tables: &impl Tables, state: &mut State, key: &FlowKey, direction: usize) -> Result<Step, DropReason> {
    state.renew = 0;
    state.key = *key;
    let promoted = if let Some(entry) = tables.flow(key) {
        state.value = *entry;
        true
    } else if let Some(entry) = tables.half_open(key) {
        state.value = *entry;
        false
    } else {
        return Ok(anew(state));
    };
    if state.value.flags & PAIRED != 0 && !renew_twin(tables, state, direction) {
        remove(tables, key);
        return Ok(anew(state));
    }
    let (epoch, rules) = (state.epoch, state.rules);
    let (there, back) = (state.legs[0].generation, state.legs[1].generation);
    refresh(&mut state.value, epoch, rules, there, back);
    let touch = touch(&state.packet, direction, state.now);
    state.value.seen |= touch.seen;
    state.value.add(direction, touch.now, touch.bytes);
    if promoted {
        state.value.flags |= PROMOTED;
        tables.put_flow(key, &state.value);
    } else {
        tables.put_half_open(key, &state.value);
        hold(tables, key);
    }
    Ok(rewrite::leave(state, state.value.legs[direction & 1], state.value.to, state.value.flags))
}

/// The other half of `state.value`; made again if it is gone. False if its key has become another flow's.
#[inline(always)]
fn renew_twin(tables: &impl Tables, state: &mut State, direction: usize) -> bool {
    let key = twin_key(&state.value, state.packet.proto);
    let (epoch, rules) = (state.epoch, state.rules);
    let (there, back) = (state.legs[0].generation, state.legs[1].generation);
    if let Some(entry) = tables.flow(&key) {
        if !is_mate(&entry, &state.packet.tuple, state.side()) {
            return false;
        }
        state.twin = *entry;
        refresh(&mut state.twin, epoch, rules, there, back);
        tables.put_flow(&key, &state.twin);
        return true;
    }
    if let Some(entry) = tables.half_open(&key) {
        if !is_mate(&entry, &state.packet.tuple, state.side()) {
            return false;
        }
        state.twin = *entry;
        refresh(&mut state.twin, epoch, rules, there, back);
        tables.put_half_open(&key, &state.twin);
        hold(tables, &key);
        return true;
    }
    other_half(tables, state, direction);
    refresh(&mut state.twin, epoch, rules, there, back);
    if !tables.reserve_half_open(&key, &state.twin) {
        return find(tables, &key).is_some_and(|entry| is_mate(&entry, &state.packet.tuple, state.side())); // Another CPU's work, or a new flow.
    }
    hold(tables, &key);
    // Asked after the insert, as in `reserve`.
    let Some(entry) = tables.flow(&key) else {
        return true;
    };
    let ours = is_mate(&entry, &state.packet.tuple, state.side());
    tables.remove_half_open(&key);
    ours
}

/// What the other half of `state.value` is: all that it says stands in either half but for the device, and its packets come
/// from where this half's go to.
#[inline(always)]
fn other_half(tables: &impl Tables, state: &mut State, direction: usize) {
    let (_, other) = state.value.to.reversed().key(state.packet.proto, SIDE_WIRE);
    let forward = direction & 1 == state.value.forward();
    let high = (other & 1 == 0) == forward;
    let (way, back) = (state.value.legs[direction & 1], state.value.legs[1 - (direction & 1)]);
    let device = comes_from(tables, &way, state.value.flags);
    let flags = twin_flags(state, high);
    let twin = &mut state.twin;
    *twin = state.value;
    twin.flags = flags;
    twin.to = state.packet.tuple.reversed();
    twin.legs[other & 1] = Leg { device, ..back };
    twin.legs[1 - (other & 1)] = Leg { device: 0, ..way };
    twin.seen = 0;
    twin.set_count(other, Count { last: state.now, packets: 0, bytes: 0 });
}

/// The device, as flows name it, that what answers a packet of this leg comes by (`route` decides the same for new flows).
#[inline(always)]
fn comes_from(tables: &impl Tables, leg: &Leg, flags: u16) -> u32 {
    let nic = tables.setting(|s| &s.nic_ifindex);
    if flags & TWIN_STACK != 0 {
        return nic | STACK;
    }
    match leg.next {
        NEXT_POD => tables.pod(leg.target).map_or(0, |pod| pod.ifindex),
        NEXT_NODE => tables.setting(|s| &s.overlay_ifindex),
        NEXT_HOST => tables.setting(|s| &s.host_ifindex),
        _ => nic,
    }
}

/// With the generations as they were before the judgement: a change since then shows on the next packet.
#[inline(always)]
fn refresh(value: &mut FlowValue, epoch: u64, rules: [u32; 2], there: u32, back: u32) {
    value.epoch = epoch as u32;
    value.rules = rules;
    let forward = value.forward() & 1;
    value.legs[forward].generation = there;
    value.legs[1 - forward].generation = back;
}
