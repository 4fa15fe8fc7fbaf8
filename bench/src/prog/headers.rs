//! The overlay's outer header by the program and by the device: what sending and receiving cost in the programs.
//!
//! A packet that got an outer header cannot get a second one, so each run is a call of its own on a new packet, and the figures
//! are larger than those of the other tables: the caches have seen the kernel's own work in between.
use abi::{config::FEATURE_ENCAPSULATE, event::Hook};
use anyhow::ensure;

use super::{
    Effort, Rig,
    rig::packet,
    ways::{NODE_2, Step, VNI, WAYS, Way},
    world::NIC,
};
use crate::{
    Args,
    report::{Cell, Table},
};

/// What `bpf_redirect` and the like return to the kernel.
const REDIRECT: u32 = 7;
/// This node, and the overlay's port.
const OWN: [u8; 4] = [172, 31, 0, 11];
const PORT: u16 = 8472;
/// Number of the flow, and its client's port.
const FLOW: u16 = 17;

pub(crate) fn table(args: &Args, effort: &Effort) -> anyhow::Result<Table> {
    let runs = if args.quick { 500 } else { 20_000 };
    let mut table = Table::new(
        "The overlay's outer header: ns per packet in the programs, each packet a new one",
        &["by the device", "by the program"],
    );
    let (send, receive) = (&WAYS[1], &WAYS[2]);
    let mut rows = [Vec::new(), Vec::new()];
    for features in [0, FEATURE_ENCAPSULATE] {
        let mut sent = established(args, effort, send, features)?;
        let plain = flow(&send.ack);
        rows[0].push(net(&mut sent, Hook::FromPod, send.ack.ifindex, &plain, runs)?);
        if features == 0 {
            rows[1].push(None); // The device's own work is no program's.
            continue;
        }
        let mut received = established(args, effort, receive, features)?;
        let outer = wrapped(&flow(&receive.ack));
        rows[1].push(net(&mut received, Hook::FromNetdev, NIC, &outer, runs)?);
    }
    for (name, cells) in
        ["pod → remote pod (VXLAN send)", "VXLAN receive → local pod, from the NIC on"].iter().zip(rows)
    {
        table.row(format!("Weft: {name}"), cells);
    }
    table.note("one established flow; net of an empty program on the same packet in the same way; the device's own work is in neither column");
    Ok(table)
}

/// A node with a few flows of the path; [`FLOW`] is the last of them.
fn established(args: &Args, effort: &Effort, way: &Way, features: u32) -> anyhow::Result<Rig> {
    let mut rig = Rig::with(args, &effort.sizes, features)?;
    rig.establish(way, u32::from(FLOW) + 1)?;
    Ok(rig)
}

fn net(rig: &mut Rig, hook: Hook, ifindex: u32, packet: &[u8], runs: u32) -> anyhow::Result<Option<Cell>> {
    let (floor, _) = rig.single("cut", ifindex, packet, runs)?;
    let (gross, answer) = rig.single(hook.name(), ifindex, packet, runs)?;
    ensure!(answer == REDIRECT, "{}: the last packet answered {answer}", hook.name());
    Ok(Cell::whole(gross - floor))
}

/// A packet of the flow, with the ports that the harness gives it.
fn flow(step: &Step) -> Vec<u8> {
    let mut bytes = packet(step);
    let (client, server) = (FLOW.to_be_bytes(), step.port.to_be_bytes());
    let ports = if step.back { [server, client] } else { [client, server] };
    bytes[34..38].copy_from_slice(&ports.concat());
    bytes
}

/// As node 2 sends it to this one.
fn wrapped(inner: &[u8]) -> Vec<u8> {
    let length = inner.len() as u16;
    let mut outer = inner[..14].to_vec();
    let mut header = vec![0x45, 0];
    header.extend((length + 36).to_be_bytes());
    header.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    header.extend([NODE_2, OWN].concat());
    outer.extend(header);
    outer.extend(50_000_u16.to_be_bytes());
    outer.extend(PORT.to_be_bytes());
    outer.extend((length + 16).to_be_bytes());
    outer.extend([0, 0, 8, 0, 0, 0]);
    outer.extend((VNI << 8).to_be_bytes());
    outer.extend(inner);
    outer
}
