//! The way: which device or node the translated destination is behind, and by where its answers come.
//!
//! After `policy`, before `record`. Also decides that the source must change: masquerade on the way out of the cluster,
//! and the hairpin of a flow that comes back to where it started.
use crate::{Kernel, Stage, State, Step, Tables, admit::to_node};
use abi::{
    Addr, DropReason,
    config::{VNI_POD, VNI_SERVICE},
    event::Hook,
    flow::{DECREMENT, Leg, NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_PASS, NEXT_POD, STACK},
    pod::{HOST, NONE, READY},
    route::{CLUSTER_RANGE, LOCAL, NODE_ADDRESS, NOT_MASQUERADED, SERVICE_RANGE},
};

/// The stage: sets both legs and the source address of the flow.
#[inline(always)]
pub fn choose(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<Step, DropReason> {
    let device = state.legs[0].device;
    let way = if state.dest != NONE { near(tables, state)? } else { far(tables, kernel, state)? };
    state.legs[0] = Leg { device, ..way };
    state.legs[1].device = answers_by(tables, state)?;
    if state.legs[0].next == NEXT_PASS {
        state.legs[1].next = NEXT_PASS; // The host's stack answers, and its answers are on their way out already.
    }
    routed(state);
    if state.source == state.dest && state.source != NONE {
        let v4 = state.flow.dst.is_v4();
        state.flow.src = if v4 { tables.setting(|s| &s.hairpin4) } else { tables.setting(|s| &s.hairpin6) };
    } else if state.at(Hook::FromPod) && state.legs[0].next == NEXT_NIC && masqueraded(tables, &state.flow.dst) {
        state.flow.src = own_address(tables, &state.flow.dst);
        if state.flow.src == Addr::ANY {
            return Err(DropReason::NoRoute); // This node has no address of that family.
        }
        state.masquerade = 1;
    }
    Ok(Step::Slow(Stage::Record))
}

/// Out there nobody knows the way to a pod, unless the node is told otherwise.
#[inline(always)]
fn masqueraded(tables: &impl Tables, dst: &Addr) -> bool {
    tables.route(dst).is_none_or(|route| route.flags & NOT_MASQUERADED == 0)
}

/// This node's address of the family of `like`.
#[inline(always)]
fn own_address(tables: &impl Tables, like: &Addr) -> Addr {
    if like.is_v4() { tables.setting(|s| &s.host4) } else { tables.setting(|s| &s.host6) }
}

/// A pod of this node, or the node itself.
#[inline(always)]
fn near(tables: &impl Tables, state: &State) -> Result<Leg, DropReason> {
    if state.dest == HOST {
        let next = if state.at(Hook::FromNetdev) && !state.from_node() { NEXT_PASS } else { NEXT_HOST };
        return Ok(Leg { next, ..Leg::default() });
    }
    let pod = tables.pod(state.dest).ok_or(DropReason::TableMissing)?;
    if pod.flags & READY == 0 {
        return Err(DropReason::PodNotReady);
    }
    Ok(Leg { target: state.dest, generation: pod.generation, next: NEXT_POD, ..Leg::default() })
}

/// Another node, or outside.
#[inline(always)]
fn far(tables: &impl Tables, kernel: &impl Kernel, state: &State) -> Result<Leg, DropReason> {
    let dst = state.flow.dst;
    let Some(route) = tables.route(&dst) else {
        return outside(kernel, state);
    };
    if route.node == 0 {
        return Err(match route.flags {
            f if f & SERVICE_RANGE != 0 => DropReason::UnknownService,
            f if f & CLUSTER_RANGE != 0 => DropReason::UnknownPod,
            _ => return outside(kernel, state),
        });
    }
    let node = tables.node(route.node).ok_or(DropReason::TableMissing)?;
    if node.flags & LOCAL != 0 || state.from_node() {
        return Err(DropReason::UnknownPod); // Ours by its range, but no pod has it; and nothing goes round twice.
    }
    if state.source == HOST && route.flags & NODE_ADDRESS != 0 {
        return outside(kernel, state); // Host to host stays on the underlay.
    }
    let vni = if state.at(Hook::FromNetdev) { VNI_SERVICE } else { VNI_POD };
    Ok(to_node(route.node, node.generation, vni))
}

#[inline(always)]
fn outside(kernel: &impl Kernel, state: &State) -> Result<Leg, DropReason> {
    // The host's own packets to outside do not come by `weft_host`, unless a service led there.
    if state.from_node() || (!state.at(Hook::FromPod) && state.backend == 0) {
        return Err(DropReason::NoRoute);
    }
    let target = kernel.fib(state.flow.src, state.flow.dst).ok_or(DropReason::NoRoute)?;
    Ok(Leg { target, next: NEXT_NIC, ..Leg::default() })
}

/// The device that answers come by, as flows name it.
#[inline(always)]
fn answers_by(tables: &impl Tables, state: &State) -> Result<u32, DropReason> {
    let nic = tables.setting(|s| &s.nic_ifindex);
    let back = &state.legs[1];
    let client_outside = back.next == NEXT_NIC || (back.next == NEXT_NODE && u32::from(back.vni) == VNI_SERVICE);
    Ok(match state.legs[0].next {
        NEXT_POD => tables.pod(state.dest).ok_or(DropReason::TableMissing)?.ifindex,
        NEXT_NODE => tables.setting(|s| &s.overlay_ifindex),
        NEXT_HOST if client_outside => nic | STACK,
        NEXT_HOST => tables.setting(|s| &s.host_ifindex),
        NEXT_PASS => nic | STACK,
        _ => nic,
    })
}

/// Where the kernel would forward, it would count a hop; what the host itself sends or gets is not forwarded.
#[inline(always)]
fn routed(state: &mut State) {
    let ends = |next: u8| next == NEXT_HOST || next == NEXT_PASS;
    if !ends(state.legs[0].next) && !ends(state.legs[1].next) {
        state.legs[0].flags |= DECREMENT;
        state.legs[1].flags |= DECREMENT;
    }
}
