//! The BPF programs. A hook file says when its program runs; what happens is in the `datapath` crate, and this crate
//! lends it the kernel: packet bytes ([`packet`], [`edit`]), maps ([`maps`], [`tables`]), helpers ([`kernel`]), and the one exit
//! ([`finish`]). All `unsafe` of the datapath is here.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic_xadd: the target has no fetch_add in core::sync::atomic")]

mod arp;
mod decapsulate;
mod edit;
mod encapsulate;
mod finish;
mod from_host;
mod from_netdev;
mod from_overlay;
mod from_pod;
mod hook;
mod kernel;
mod maps;
mod next_hop;
mod packet;
mod slow;
mod tables;
mod tell;
mod to_netdev;
mod to_pod;
mod too_big;

/// Never reached: nothing in the programs panics, or the verifier would refuse the call.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers that look up sockets, and others, are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
