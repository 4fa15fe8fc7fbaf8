//! Service translation: service address → backend address.
//!
//! Comes after `admit` and before `policy`: policy judges the backend, never the service address. Tables come from
//! `proxy::compile`; their layout is in `abi::service`.
use crate::{Kernel, State, Tables};
use abi::{
    Addr, DropReason,
    event::Hook,
    route::NODE_ADDRESS,
    service::{ALIVE, SCOPE_CLUSTER, SCOPE_HOST_PORT, SCOPE_NODE_PORT, Service, ServiceKey},
};

/// Points the state's flow to a backend if its destination is a service; false if it is none.
#[inline(always)]
pub fn translate(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<bool, DropReason> {
    let Some(service) = find(tables, state) else {
        return Ok(false);
    };
    state.service = service.service;
    if service.count == 0 {
        return Err(DropReason::NoBackend);
    }
    let slot = service.first_slot.wrapping_add(kernel.random() % service.count);
    let id = tables.slot(slot);
    let backend = tables.backend(id).ok_or(DropReason::NoBackend)?;
    if id == 0 || backend.flags & ALIVE == 0 {
        return Err(DropReason::NoBackend);
    }
    state.backend = id;
    state.backend_generation = backend.generation;
    state.flow.dst = backend.addr;
    state.flow.dport = backend.port;
    Ok(true)
}

#[inline(always)]
fn find<'a>(tables: &'a impl Tables, state: &State) -> Option<&'a Service> {
    let (flow, proto) = (&state.flow, state.packet.proto);
    let by_node = state.from_node();
    let near = !by_node && !state.at(Hook::FromNetdev);
    // To those who come from outside, cluster addresses are no services; our own pods' host ports are.
    let scope = if near { SCOPE_CLUSTER } else { SCOPE_HOST_PORT };
    if let Some(service) = tables.service(&ServiceKey { addr: flow.dst, port: flow.dport, proto, scope }) {
        return Some(service);
    }
    if by_node {
        return None; // All else the sending node has done.
    }
    let port = u16::from_be(flow.dport);
    if port < tables.setting(|s| &s.node_port_first) || port > tables.setting(|s| &s.node_port_last) {
        return None;
    }
    let route = tables.route(&flow.dst)?;
    let own = state.at(Hook::FromNetdev); // From outside only the addresses of this node answer.
    if route.flags & NODE_ADDRESS == 0 || (own && route.node != tables.setting(|s| &s.node)) {
        return None;
    }
    tables.service(&ServiceKey {
        addr: Addr::wildcard(flow.dst.is_v4()),
        port: flow.dport,
        proto,
        scope: SCOPE_NODE_PORT,
    })
}
