//! What the host sends to service and pod ranges: tc(x) ingress on `weft_net`, the far end of the `weft_host` pair.
//!
//! The host's routes to these ranges lead here. Services, answers to pods, probes.
use crate::hook::run;
use abi::event::Hook;
use aya_ebpf::{macros::classifier, programs::TcContext};

#[classifier]
pub fn from_host(context: TcContext) -> i32 {
    run(&context, Hook::FromHost)
}
