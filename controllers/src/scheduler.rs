//! The scheduler.
mod usage;
pub(crate) use usage::Usage;
