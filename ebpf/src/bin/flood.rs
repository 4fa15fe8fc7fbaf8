//! For `tests/soak` only, never attached: run over frames without a packet socket behind them (BPF_PROG_TEST_RUN with live
//! frames), it makes each a TCP SYN from another port and address, and the kernel takes it for one that the device received.
//! Every byte is written anew: the kernel uses a page again as the datapath has left it.
#![no_std]
#![no_main]

#[path = "../object.rs"]
mod object;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_PASS},
    helpers::generated::bpf_get_prandom_u32,
    macros::xdp,
    programs::XdpContext,
};
use datapath::checksum::{change, update};

/// A frame of Ethernet, IPv4 without options and TCP: its words, the last ones padding. Written by the loader.
#[unsafe(no_mangle)]
static FRAME: [u64; WORDS] = [0; WORDS];
/// Source addresses from the frame's own on, within its last 16 bits. Written by the loader.
#[unsafe(no_mangle)]
static SOURCES: u32 = 1;

const WORDS: usize = 8;
/// Where fields lie.
const IP_SUM: usize = 24;
const SOURCE_LOW: usize = 28;
const SOURCE_PORT: usize = 34;
const TCP_SUM: usize = 50;
/// Source ports: those from here on.
const FIRST_PORT: u32 = 1_024;
const PORTS: u32 = 60_000;

#[xdp]
pub fn flood(context: XdpContext) -> u32 {
    let frame = context.data() as *mut u8;
    if context.data() + WORDS * 8 > context.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: the frame is that long; fields of it may lie at odd addresses. The globals are volatile reads, since the loader
    // and not this code gives their values.
    unsafe {
        for (index, word) in FRAME.iter().enumerate() {
            frame.cast::<u64>().add(index).write_unaligned(core::ptr::read_volatile(word));
        }
        let random = bpf_get_prandom_u32();
        let sources = core::ptr::read_volatile(&raw const SOURCES);
        let field = |at: usize| frame.add(at).cast::<u16>();
        let (old_source, old_port) = (field(SOURCE_LOW).read_unaligned(), field(SOURCE_PORT).read_unaligned());
        let further = if sources > 1 { (random >> 16) % sources } else { 0 };
        let source = u16::from_be(old_source).wrapping_add(further as u16).to_be();
        let port = ((FIRST_PORT + (random.wrapping_mul(0x9e37_79b1) >> 8) % PORTS) as u16).to_be();
        let by_source = change(old_source.into(), source.into());
        let by_port = change(old_port.into(), port.into());
        field(SOURCE_LOW).write_unaligned(source);
        field(SOURCE_PORT).write_unaligned(port);
        field(IP_SUM).write_unaligned(update(field(IP_SUM).read_unaligned(), by_source));
        field(TCP_SUM).write_unaligned(update(field(TCP_SUM).read_unaligned(), by_source + by_port));
    }
    XDP_PASS
}
