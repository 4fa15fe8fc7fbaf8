//! The node daemon: watch, compile, diff, apply.

pub mod apply;
pub mod diff;
pub mod tables;
pub mod text;
