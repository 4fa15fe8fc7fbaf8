//! What must hold for long: a flood beside established connections, a node without its agent, faults without end.
//!
//! The same forms run short with the other tests and long as `cargo xtask soak`, which sets the sizes (see `size`) and
//! keeps the figures. Each form prints its figures; a form that fails says what was lost, broken or left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "shared files hold more than this test uses")]

use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "soak/away.rs"]
mod away;
#[path = "../../datapath/tests/scenarios/bench.rs"]
mod bench;
#[path = "netns/exchange.rs"]
mod exchange;
#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/flood.rs"]
mod flood;
#[path = "netns/lab.rs"]
mod lab;
#[path = "prog_run/rows.rs"]
mod rows;
#[path = "soak/size.rs"]
mod size;
#[path = "soak/wire.rs"]
mod wire;
#[path = "../../datapath/tests/scenarios/world.rs"]
mod world;

/// One form at a time: each counts what it loses, and none shall pay for another's load.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A form that failed has said why.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SYN packets by the hundred thousand against a pod, then against a Service, while 500 connections go on.
#[test]
fn a_flood_breaks_no_established_connection() {
    let _alone = alone();
    flood::run();
}

/// New connections and queries by the thousand through tables that nobody sweeps.
#[test]
fn without_an_agent_nothing_is_dropped() {
    let _alone = alone();
    away::run();
}

/// Agents, nodes and the API server die or stand still, links go and come, tables fill, while pods and policies change.
#[test]
fn random_faults_leave_nothing_behind() {
    let _alone = alone();
    faults::run();
}
