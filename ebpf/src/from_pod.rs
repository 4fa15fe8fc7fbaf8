//! What a pod sends: tc(x) ingress on the host end of its veth.
//!
//! The place where a pod's source address, its egress policy and the translation of services are decided.
use crate::hook::run;
use abi::event::Hook;
use aya_ebpf::{macros::classifier, programs::TcContext};

#[classifier]
pub fn from_pod(context: TcContext) -> i32 {
    run(&context, Hook::FromPod)
}
