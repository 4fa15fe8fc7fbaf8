//! Out by the NIC to a next hop on its segment: from `finish`, for what goes to other nodes natively or with an outer header of ours.
//!
//! The kernel's neighbour table knows the link address, and is asked a few times a second and not for each packet; what it said is
//! remembered in between, per processor. The packet that asks goes the kernel's way (`bpf_redirect_neigh`), so that the kernel sees
//! the neighbour used: it confirms what has become stale and resolves what is not known. A next hop that moves to another link
//! address is followed within a sixteenth of a second ([`TIMES`]).
use crate::{
    kernel::{AF_INET, AF_INET6, ask_out, setting},
    maps::NEXT_HOPS,
    packet::Skb,
};
use abi::{Addr, config::MARK_SEEN};
use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibParams, bpf_redir_neigh},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh},
};
use core::{
    intrinsics::cold_path,
    mem::{MaybeUninit, size_of},
};
use datapath::Kernel;

/// Rows, by the address's last byte; two next hops of one row take turns in it.
pub const ROWS: u32 = 256;
/// How often in a second the kernel is asked.
const TIMES: u64 = 16;

/// A next hop on one processor. All zeros is none.
#[repr(C)]
pub struct NextHop {
    /// Its address.
    to: Addr,
    /// Jiffies until which the answer is believed.
    until: u64,
    /// What the kernel answered; here, since the programs' stack has no room for it.
    answer: FibParams,
}

/// Sends it there.
#[inline(always)]
pub fn hand_over(skb: &Skb, ifindex: u32, to: &Addr) -> i32 {
    skb.set_mark(MARK_SEEN);
    if let Some(row) = NEXT_HOPS.get_ptr_mut(u32::from_be(to.0[3]) & (ROWS - 1)) {
        // SAFETY: this CPU's own row; tc programs do not interrupt one another.
        let row = unsafe { &mut *row };
        let now = skb.now();
        if row.to == *to && now < row.until {
            if link(skb, &row.answer).is_some() {
                // SAFETY: no pointers.
                return unsafe { bpf_redirect(ifindex, 0) as i32 };
            }
        } else {
            cold_path();
            ask(skb, ifindex, to, row, now);
        }
    }
    by_kernel(ifindex, to)
}

/// The link header as the kernel's own way would write it.
#[inline(always)]
fn link(skb: &Skb, answer: &FibParams) -> Option<()> {
    let header = skb.at::<[u16; 7]>(0)?;
    let half = |mac: &[u8; 6], at: usize| u16::from_ne_bytes([mac[at], mac[at + 1]]);
    let (to, from) = (&answer.dmac, &answer.smac);
    // SAFETY: fourteen bytes in bounds, packet data of a tc program is writable.
    unsafe {
        *header = [half(to, 0), half(to, 2), half(to, 4), half(from, 0), half(from, 2), half(from, 4), skb.protocol()];
    }
    Some(())
}

/// Asks the kernel, and remembers what it says if the next hop is behind the NIC itself and known.
#[inline(always)]
fn ask(skb: &Skb, ifindex: u32, to: &Addr, row: &mut NextHop, now: u64) {
    row.until = 0;
    // SAFETY: all zeros is a valid value of this C struct.
    row.answer = unsafe { MaybeUninit::zeroed().assume_init() };
    if !ask_out(skb, ifindex, to, &mut row.answer) {
        return;
    }
    // SAFETY: of the family that was asked for.
    let itself = unsafe {
        if to.is_v4() {
            row.answer.__bindgen_anon_4.ipv4_dst == to.v4_word()
        } else {
            Addr(row.answer.__bindgen_anon_4.ipv6_dst) == *to
        }
    };
    if itself {
        row.to = *to;
        row.until = now + u64::from(setting(|s| &s.jiffies_per_second)) / TIMES;
    }
}

/// By the kernel's neighbour table.
#[inline(always)]
fn by_kernel(ifindex: u32, to: &Addr) -> i32 {
    // SAFETY: all zeros is a valid value of this C struct.
    let mut next: bpf_redir_neigh = unsafe { MaybeUninit::zeroed().assume_init() };
    if to.is_v4() {
        next.nh_family = u32::from(AF_INET);
        next.__bindgen_anon_1.ipv4_nh = to.v4_word();
    } else {
        next.nh_family = u32::from(AF_INET6);
        next.__bindgen_anon_1.ipv6_nh = to.0;
    }
    // SAFETY: the struct lives on the stack and has its own size.
    unsafe { bpf_redirect_neigh(ifindex, &raw mut next, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}
