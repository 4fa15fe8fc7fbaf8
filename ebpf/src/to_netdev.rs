//! What leaves by the NIC: tc(x) egress on the NIC.
//!
//! Our own packets are marked and pass. The host's are looked at for two things: answers of host-network backends to
//! node ports, and flows whose addresses and ports a masqueraded pod already holds.
use crate::{hook::run, packet::Skb};
use abi::{config::MARK_SEEN, event::Hook};
use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

#[classifier]
pub fn to_netdev(context: TcContext) -> i32 {
    let skb = Skb::unread(&context); // Of ours nothing is read: the sooner they leave, the better.
    let mark = skb.mark();
    if mark & MARK_SEEN != 0 {
        skb.set_mark(mark & !MARK_SEEN);
        return TC_ACT_UNSPEC;
    }
    run(&context, Hook::ToNetdev)
}
