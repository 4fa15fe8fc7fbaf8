//! For `bench` and `tests/prog_run` only, never attached and never shipped: restores a packet's headers and goes on in the
//! program under test, since BPF_PROG_TEST_RUN repeats on the packet as the last run left it. Beside it the established
//! path cut off after each of its stages, so that a regression names its stage.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic_xadd, as in the programs themselves")]
#![expect(dead_code, reason = "shared modules hold more than is cut out of them here")]

#[path = "../src/arp.rs"]
mod arp;
#[path = "../src/edit.rs"]
mod edit;
#[path = "../src/encapsulate.rs"]
mod encapsulate;
#[path = "../src/finish.rs"]
mod finish;
#[path = "../src/hook.rs"]
mod hook;
#[path = "../src/kernel.rs"]
mod kernel;
#[path = "../src/maps.rs"]
mod maps;
#[path = "../src/next_hop.rs"]
mod next_hop;
#[path = "../src/object.rs"]
mod object;
#[path = "../src/other_flows.rs"]
mod other_flows;
#[path = "../src/packet.rs"]
mod packet;
mod plan;
#[path = "../src/tables.rs"]
mod tables;
#[path = "../src/tell.rs"]
mod tell;

use abi::event::Hook;
use aya_ebpf::{
    bindings::{TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::{bpf_get_prandom_u32, bpf_skb_set_tunnel_key},
    macros::{classifier, map},
    maps::{Array, ProgramArray},
    programs::TcContext,
};
use core::mem::{MaybeUninit, size_of};
use datapath::{Outcome, Packet, Step, parse};
use packet::Skb;
use plan::{NEW, Plan, RANDOM, WORDS};

/// What a program that was cut off returns.
const CUT: i32 = 99;

/// The one plan.
#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);
/// Entry 0: the program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Restores the packet and goes on.
#[classifier]
pub fn harness(context: TcContext) -> i32 {
    let skb = context.skb.skb;
    let Some(plan) = PLAN.get_ptr_mut(0) else {
        return TC_ACT_SHOT;
    };
    // SAFETY: the row is there as long as the map; the packet's bounds are checked before its bytes are written.
    unsafe {
        let count = (*plan).count;
        let flow = match (*plan).mode {
            RANDOM if count != 0 => bpf_get_prandom_u32() as u32 % count,
            NEW => {
                (*plan).next += 1;
                (*plan).next
            }
            _ => (*plan).next,
        };
        let (start, end) = ((*skb).data as usize, (*skb).data_end as usize);
        if start + WORDS * 8 > end {
            return TC_ACT_SHOT;
        }
        let words = start as *mut u64;
        for index in 0..WORDS {
            *words.add(index) = (*plan).header[index];
        }
        let client = (flow as u16).to_be();
        let server = ((*plan).port.wrapping_add(flow >> 16) as u16).to_be();
        let ports = if (*plan).v6 == 0 { (start + 34) as *mut u16 } else { (start + 54) as *mut u16 };
        let (source, destination) = if (*plan).back == 0 { (client, server) } else { (server, client) };
        *ports = source;
        *ports.add(1) = destination;
        (*skb).mark = 0;
        if (*plan).tunnel_source != 0 {
            arm(skb, plan);
        }
    }
    // SAFETY: the context is the program's own.
    unsafe { TARGET.tail_call(&context, 0) };
    TC_ACT_SHOT
}

/// Gives the packet an outer header, as if the overlay device had taken it off; each time, since the kernel keeps one for all
/// packets of a processor, and others on the machine set theirs.
#[inline(always)]
unsafe fn arm(skb: *mut aya_ebpf::bindings::__sk_buff, plan: *mut Plan) {
    // SAFETY: all zeros is a valid value of this C struct, which lives on the stack and has its own size.
    unsafe {
        let mut key: bpf_tunnel_key = MaybeUninit::zeroed().assume_init();
        key.__bindgen_anon_3.local_ipv4 = (*plan).tunnel_source;
        key.tunnel_id = (*plan).vni;
        bpf_skb_set_tunnel_key(skb, &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0);
    }
}

/// Nothing at all: the harness's own cost, and the end of what is cut off before a stage.
#[classifier]
pub fn cut(_: TcContext) -> i32 {
    CUT
}

/// The hook program up to the parsed packet.
#[classifier]
pub fn cut_parse(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mut packet = Packet::default();
    if parse::parse(&skb, &mut packet) != Ok(parse::Headers::Plain) {
        return TC_ACT_SHOT;
    }
    let tuple = &packet.tuple;
    let ports = u32::from(tuple.sport) ^ u32::from(tuple.dport) ^ u32::from(packet.ttl) ^ u32::from(packet.tcp);
    // Something of every field, so that none is left out.
    match tuple.src.v4_word() ^ tuple.dst.v4_word() ^ ports ^ packet.len ^ packet.ifindex ^ packet.l4 {
        0 => TC_ACT_SHOT,
        _ => CUT,
    }
}

/// And up to the verdict: look-up, everything that a row is checked for, what is written into it, the plan.
#[classifier]
pub fn cut_conntrack(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mut packet = Packet::default();
    let mut outcome = Outcome::default();
    if parse::parse(&skb, &mut packet) != Ok(parse::Headers::Plain) || !decided(&skb, &packet, &mut outcome) {
        return TC_ACT_SHOT;
    }
    if outcome.next == 0 || (outcome.ifindex ^ outcome.mac[0] as u32) == 1 { TC_ACT_SHOT } else { CUT }
}

/// And up to the rewritten packet: what is left is counting and the redirect.
#[classifier]
pub fn cut_rewrite(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mut packet = Packet::default();
    let mut outcome = Outcome::default();
    if parse::parse(&skb, &mut packet) != Ok(parse::Headers::Plain) || !decided(&skb, &packet, &mut outcome) {
        return TC_ACT_SHOT;
    }
    match finish::rewrite(&skb, &packet, &outcome) {
        Some(()) => CUT,
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn decided(skb: &Skb, packet: &Packet, outcome: &mut Outcome) -> bool {
    matches!(datapath::hook::enter(Hook::FromPod, &tables::Maps, skb, packet, outcome), Ok(Step::Done))
}
