//! The last stage of every way: a flow's row → verdict and edits.
use crate::{
    Outcome, Packet, Tables, Verdict,
    parse::KIND_ERROR,
    step::Edits,
};
use abi::{
    Addr, DropReason,
    flow::{DECREMENT, FlowValue, Leg, NEXT_HOST, NEXT_NIC, NEXT_NODE, NEXT_POD, PAIRED},
};

/// What the row says about a packet of this direction.
#[inline(always)]
pub fn plan(
    tables: &impl Tables,
    value: &FlowValue,
    direction: usize,
    packet: &Packet,
) -> Result<Outcome, DropReason> {
    let leg = &value.legs[direction & 1];
    let decrement = leg.flags & DECREMENT != 0;
    if decrement && packet.ttl <= 1 {
        return Err(DropReason::TtlExceeded);
    }
    let translate = value.flags & PAIRED != 0 && packet.kind != KIND_ERROR;
    Ok(Outcome { verdict: verdict(tables, leg)?, edits: Edits { to: value.to, translate, decrement } })
}

#[inline(always)]
fn verdict(tables: &impl Tables, leg: &Leg) -> Result<Verdict, DropReason> {
    let missing = DropReason::TableMissing;
    Ok(match leg.next {
        NEXT_POD => {
            let pod = tables.pod(leg.target).ok_or(missing)?;
            Verdict::Pod { ifindex: pod.ifindex, mac: pod.mac }
        }
        NEXT_NODE => {
            let node = tables.node(leg.target).ok_or(missing)?;
            if node.tunnel == Addr::ANY {
                return Err(missing);
            }
            Verdict::Encap { tunnel: node.tunnel, vni: u32::from(leg.vni) }
        }
        NEXT_HOST => Verdict::Host,
        NEXT_NIC => Verdict::Nic { ifindex: leg.target },
        _ => Verdict::Pass,
    })
}
