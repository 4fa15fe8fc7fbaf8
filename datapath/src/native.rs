//! Packets between nodes without an outer header: who may send them, and which flows they belong to.
//!
//! Beside `admit` at `from_netdev`. A node's row in `NODES` says by family whether it is reached so
//! ([`abi::route::NATIVE`], read in `rewrite`) and whether what comes from it so is expected
//! ([`abi::route::TAKES_NATIVE`], read here). Both ways are one to flows: a row names the overlay for both, so that nodes
//! may change over one by one. What is forwarded for a client outside is never sent so: its source would tell nothing.
use crate::{Kernel, Packet, State, Tables, admit::to_node};
use abi::{
    Addr, DropReason,
    config::{FEATURE_NATIVE, VNI_POD},
    flow::{Leg, NEXT_NODE},
    pod::{HOST, NONE},
    route::{LOCAL, NATIVE, NODE_ADDRESS, Node, SEGMENT, TAKES_NATIVE},
};

/// Whether there is any such node; a constant of the program.
#[inline(always)]
pub fn in_use(tables: &impl Tables) -> bool {
    tables.setting(|s| &s.features) & FEATURE_NATIVE != 0
}

/// The packet goes to that node without an outer header.
#[inline(always)]
pub fn goes(tables: &impl Tables, node: &Node, leg: &Leg, packet: &Packet) -> bool {
    in_use(tables) && u32::from(leg.vni) == VNI_POD && node.says(NATIVE, packet.v6 == 0)
}

/// Admits a packet at the NIC as another node's: the source is a pod's or an address of a node that may send so. False:
/// it is not, and has to be judged as one from outside.
#[inline(always)]
pub fn admit(tables: &impl Tables, kernel: &impl Kernel, state: &mut State) -> Result<bool, DropReason> {
    if !in_use(tables) {
        return Ok(false);
    }
    let (src, v4) = (state.packet.tuple.src, state.packet.tuple.src.is_v4());
    let Some(route) = tables.route(&src) else {
        return Ok(false);
    };
    if route.flags & NODE_ADDRESS != 0 {
        let to = tables.pod_of(&state.packet.tuple.dst);
        if to == NONE || to == HOST {
            return Ok(false); // Host to host, and node ports, stay on the underlay.
        }
    }
    let Some(node) = tables.node(route.node) else {
        return Ok(false);
    };
    if route.node == 0 || node.flags & LOCAL != 0 || !node.says(TAKES_NATIVE, v4) {
        return Ok(false);
    }
    // A stranger on the segment has another link address. One that the kernel has forgotten cannot be compared.
    if node.says(SEGMENT, v4) && kernel.neighbour(node.next(v4)).is_some_and(|known| known != kernel.sender()) {
        return Err(DropReason::NativeSource);
    }
    state.legs[0].device = tables.setting(|s| &s.overlay_ifindex);
    state.legs[1] = to_node(route.node, node.generation, VNI_POD);
    Ok(true)
}

/// For a packet of a known flow at the NIC: the flow's row names the overlay, and the node that its way back leads to may
/// send without it.
#[inline(always)]
pub fn agrees(tables: &impl Tables, named: u32, back: &Leg, src: &Addr) -> bool {
    in_use(tables)
        && named == tables.setting(|s| &s.overlay_ifindex)
        && back.next == NEXT_NODE
        && u32::from(back.vni) == VNI_POD
        && tables.node(back.target).is_some_and(|node| node.says(TAKES_NATIVE, src.is_v4()))
}
