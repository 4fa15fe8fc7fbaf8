//! NetworkPolicies to policy tables, as a pure function: same objects, same tables, on every node and after every start.
//!
//! [`compile`] looks only at what selects pods of its own node. Addresses that those policies cannot tell apart become
//! one *peer class* (`PEERS`, `CIDRS`), pods with the same rules share one *policy set*, and every rule becomes rows
//! `{set, class, direction, proto, port prefix}` of `POLICY`. [`judge`] asks such tables as the datapath does;
//! [`reference`](mod@reference) answers the same question straight from the API's text, and property tests hold the two together.
//! No I/O, no clock, no randomness, no map order inside; bad policies become [`objects::Issue`]s and fail closed.

mod class;
mod compile;
mod explain;
mod judge;
mod peer;
mod port;
pub mod reference;
mod rule;
mod tables;
mod text;
pub mod why;

pub use compile::{Input, LocalPod, compile};
pub use explain::{Explanation, Finding, NoAnswer, Party, Question, explain};
pub use judge::{Judge, Query, Verdict};
pub use tables::{Output, PodPolicy, Rule, Set};
pub use text::Row;
