//! Faults: to come.
pub(crate) fn run() {}
