//! For `tests/prog_run` only, never attached: BPF_PROG_TEST_RUN cannot give a packet an outer header, so this program
//! sets one as if the overlay device had taken it off, and goes on in the program under test.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, bpf_tunnel_key},
    helpers::generated::bpf_skb_set_tunnel_key,
    macros::{classifier, map},
    maps::ProgramArray,
    programs::TcContext,
};
use core::mem::{MaybeUninit, size_of};

/// Entry 0: the program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Control block: outer source (host byte order) and VNI.
#[classifier]
pub fn tunnel(context: TcContext) -> i32 {
    let cb = context.cb();
    // SAFETY: all zeros is a valid value of this C struct.
    let mut key: bpf_tunnel_key = unsafe { MaybeUninit::zeroed().assume_init() };
    key.__bindgen_anon_3.local_ipv4 = cb[0];
    key.tunnel_id = cb[1];
    // SAFETY: the struct lives on the stack and has its own size; the context is the program's own.
    unsafe {
        if bpf_skb_set_tunnel_key(context.skb.skb, &raw mut key, size_of::<bpf_tunnel_key>() as u32, 0) == 0 {
            TARGET.tail_call(&context, 0);
        }
    }
    TC_ACT_SHOT
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
