//! The datapath as pure functions: a packet and tables in, a verdict out.
//!
//! The way of a packet, one module per stage: [`parse`] → [`conntrack`] (the whole way of an established flow ends
//! here, in [`rewrite`]) → [`admit`] and [`service`] → [`policy`] → [`route`] → [`record`]. [`hook`] says which stage
//! follows which; the programs in `ebpf` and the loop in `sim` both ask it, so what the kernel runs is what the tests
//! run. Tables come through [`Tables`], what the kernel lends through [`Kernel`]. This crate touches no packet byte in
//! place: edits are data, applied by the caller once there is a verdict.
#![no_std]
#![forbid(unsafe_code)]
#[cfg(feature = "std")]
extern crate std;

pub mod admit;
pub mod arp;
pub mod checksum;
pub mod conntrack;
pub mod fragment;
pub mod hook;
pub mod kernel;
pub mod limit;
pub mod native;
pub mod neighbour;
pub mod parse;
pub mod policy;
pub mod promote;
pub mod quota;
pub mod record;
pub mod rewrite;
pub mod route;
pub mod service;
#[cfg(feature = "std")]
pub mod sim;
pub mod state;
pub mod step;
pub mod tables;
pub mod timeout;
pub mod too_big;

pub use kernel::Kernel;
pub use parse::{Frame, Packet};
pub use state::State;
pub use step::{Outcome, Stage, Step, Verdict};
pub use tables::Tables;
