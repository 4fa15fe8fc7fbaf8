//! What the node's NIC receives: tc(x) ingress on the NIC.
//!
//! Node ports, answers to masqueraded pods and to the host's service flows. What is none of these is the host's and
//! passes, but nothing from outside may carry an address of ours as its source.
use crate::hook::run;
use abi::event::Hook;
use aya_ebpf::{macros::classifier, programs::TcContext};

#[classifier]
pub fn from_netdev(context: TcContext) -> i32 {
    run(&context, Hook::FromNetdev)
}
