//! What a pod receives from the host's stack: tc(x) egress on the host end of its veth.
//!
//! Other hooks deliver by `bpf_redirect_peer`, which does not pass here. What does pass is what they sent by a plain
//! redirect (marked, and judged already), and what the host's stack sends to this device by itself.
use crate::{hook::run, packet::Skb};
use abi::{config::MARK_SEEN, event::Hook};
use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

#[classifier]
pub fn to_pod(context: TcContext) -> i32 {
    let skb = Skb::new(&context);
    let mark = skb.mark();
    if mark & MARK_SEEN != 0 {
        skb.set_mark(mark & !MARK_SEEN);
        return TC_ACT_UNSPEC;
    }
    run(&context, Hook::ToPod)
}
