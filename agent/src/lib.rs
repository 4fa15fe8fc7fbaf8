//! The node daemon: watch, compile, diff, apply
