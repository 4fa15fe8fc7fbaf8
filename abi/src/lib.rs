//! The contract between user space and the kernel: every key, value, number and map that both sides see.
//!
//! One definition serves the BPF programs, the compilers and the agent, so nothing has to be kept in step by hand.
//! Rows are `repr(C)`, made of integers and byte arrays only, without padding (`zerocopy` proves it), and each one's
//! size is asserted beside it. Addresses and ports are in network byte order everywhere, all else in native order.
//! This crate does no I/O and knows no Kubernetes object.
#![no_std]

pub mod addr;
pub mod config;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod map;
pub mod peer;
pub mod pod;
pub mod policy;
pub mod route;
pub mod service;
pub mod timeout;
pub mod verdict;

pub use addr::Addr;
pub use verdict::DropReason;
