//! The node daemon: watch, compile, diff, apply.

pub mod apply;
pub mod compile;
pub mod diff;
pub mod slots;
pub mod snapshot;
pub mod tables;
pub mod text;
