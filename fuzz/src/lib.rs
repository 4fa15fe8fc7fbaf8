//! Fuzz targets: what comes from outside (packets, CNI configurations, calls on the agent's socket) as arbitrary bytes.
//!
//! A target is a function that panics when a promise is broken; the promises stand at its head. `cargo xtask fuzz` searches
//! by coverage for inputs that break one; `tests/replay.rs` runs every input in `corpus/` and `crashes/` on each test run.

#[expect(dead_code, clippy::unwrap_used, reason = "the scenarios' own words, of which a target needs few")]
#[path = "../../datapath/tests/scenarios/bench.rs"]
mod bench;
pub mod config;
pub mod packet;
pub mod request;
mod sums;
#[expect(dead_code, clippy::unwrap_used, reason = "the scenarios' own node, of which a target needs a part")]
#[path = "../../datapath/tests/scenarios/world.rs"]
mod world;

/// A target: its name, which is its directory's in the corpus, and what runs one input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 3] = [("packet", packet::run), ("config", config::run), ("request", request::run)];
