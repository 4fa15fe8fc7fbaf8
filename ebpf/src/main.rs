//! The BPF programs. A hook file says when its program runs; what happens is in the `datapath` crate, and this crate
//! lends it the kernel: packet bytes ([`packet`], [`edit`]), maps ([`maps`], [`tables`]), helpers ([`kernel`]), and the one exit
//! ([`finish`]). All `unsafe` of the datapath is here.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomic_xadd: the target has no fetch_add in core::sync::atomic")]

mod arp;
mod decapsulate;
mod edit;
mod encapsulate;
mod finish;
mod from_host;
mod from_netdev;
mod from_overlay;
mod from_pod;
mod hook;
mod kernel;
mod maps;
mod next_hop;
mod object;
mod other_flows;
mod packet;
mod slow;
mod tables;
mod tell;
mod to_netdev;
mod to_pod;
mod too_big;
