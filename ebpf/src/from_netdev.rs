//! What the node's NIC receives: tc(x) ingress on the NIC.
//!
//! Overlay packets have their outer header taken off here, if the program does that, and go on as `from_overlay`'s.
//! Node ports, answers to masqueraded pods and to the host's service flows. What is none of these is the host's and
//! passes, but nothing from outside may carry an address of ours as its source.
use crate::{
    decapsulate,
    hook::{go_on, run},
    kernel::setting,
    packet::Skb,
};
use abi::{config::FEATURE_ENCAPSULATE, event::Hook};
use aya_ebpf::{macros::classifier, programs::TcContext};
use datapath::Stage;

#[classifier]
pub fn from_netdev(context: TcContext) -> i32 {
    if setting(|s| &s.features) & FEATURE_ENCAPSULATE != 0 && decapsulate::is_overlay(&Skb::new(&context)) {
        go_on(&context, Stage::Decapsulate);
    }
    run(&context, Hook::FromNetdev)
}
