//! For `tests/prog_run` only, never attached: BPF_PROG_TEST_RUN cannot give a packet an outer header, so this program
//! sets one as if the overlay device had taken it off, and goes on in the program under test.
#![no_std]
#![no_main]

#[path = "../object.rs"]
mod object;

use abi::Addr;
use aya_ebpf::{
    bindings::{BPF_F_TUNINFO_IPV6, TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::bpf_skb_set_tunnel_key,
    macros::{classifier, map},
    maps::ProgramArray,
    programs::TcContext,
};
use core::mem::{MaybeUninit, size_of};

/// Entry 0: the program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Control block: outer source (as `abi::Addr`) and VNI.
#[classifier]
pub fn tunnel(context: TcContext) -> i32 {
    let cb = context.cb();
    // SAFETY: all zeros is a valid value of this C struct.
    let mut key: bpf_tunnel_key = unsafe { MaybeUninit::zeroed().assume_init() };
    let source = Addr([cb[0], cb[1], cb[2], cb[3]]);
    let flags = if source.is_v4() {
        key.__bindgen_anon_3.local_ipv4 = u32::from_be(source.v4_word());
        0
    } else {
        key.__bindgen_anon_3.local_ipv6 = source.0;
        u64::from(BPF_F_TUNINFO_IPV6)
    };
    key.tunnel_id = cb[4];
    // SAFETY: the struct lives on the stack and has its own size; the context is the program's own.
    unsafe {
        if bpf_skb_set_tunnel_key(context.skb.skb, &raw mut key, size_of::<bpf_tunnel_key>() as u32, flags) == 0 {
            TARGET.tail_call(&context, 0);
        }
    }
    TC_ACT_SHOT
}
