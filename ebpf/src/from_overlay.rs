//! What comes out of the overlay: tc(x) ingress on the flow-based VXLAN device.
//!
//! The outer header is off; its source must be the node that the inner source belongs to.
use crate::hook::run;
use abi::event::Hook;
use aya_ebpf::{macros::classifier, programs::TcContext};

#[classifier]
pub fn from_overlay(context: TcContext) -> i32 {
    run(&context, Hook::FromOverlay)
}
