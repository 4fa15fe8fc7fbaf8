//! Services to service tables, in two pure steps.
//!
//! [`compile`] says what is wanted, in content: which service address leads to which backends. [`slots::assign`] gives
//! that content places in the arrays (`BACKENDS`, `SLOTS`), staying as close to what the maps hold already as it can:
//! kept backends keep their index, ranges are never rewritten. The datapath then needs no loop: a hash picks a slot.
//! No I/O, no clock, no randomness; what cannot be served becomes an [`objects::Issue`].

mod compile;
pub mod slots;
mod text;

pub use compile::{BackendAddr, Entry, Input, Output, ServiceName, compile};
pub use text::{KeyText, proto_name};
