//! The agent's life under traffic: killed, restarted, upgraded, handed back, and gone without a trace; and the programs of
//! others on the same devices.
#[path = "../../agent/tests/node/api.rs"]
#[expect(dead_code, reason = "shared with tests that remove objects")]
mod api;
#[path = "life/cleanup.rs"]
mod cleanup;
#[path = "life/coexist.rs"]
mod coexist;
#[path = "life/foreign.rs"]
mod foreign;
#[path = "life/lab.rs"]
mod lab;
#[path = "../../agent/tests/node/namespaces.rs"]
#[expect(dead_code, reason = "shared with tests of one node")]
mod namespaces;
#[path = "life/takeover.rs"]
mod takeover;
#[path = "life/traffic.rs"]
mod traffic;

use std::io::Write as _;

/// False, and a line that says why, where the tests cannot run.
fn may_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let why = "SKIPPED: this test makes network namespaces and loads BPF programs, which needs root";
        let _ = writeln!(std::io::stderr(), "{why}");
    }
    root
}

#[test]
fn nothing_is_lost_while_agents_come_and_go() {
    if may_run() {
        takeover::agents_come_and_go();
    }
}

#[test]
fn cleanup_leaves_nothing() {
    if may_run() {
        cleanup::leaves_nothing();
    }
}

#[test]
fn others_programs_see_what_they_saw_by_tcx() {
    if may_run() {
        coexist::by_tcx();
    }
}

#[test]
fn others_filters_see_what_they_saw_by_clsact() {
    if may_run() {
        coexist::by_clsact();
    }
}

#[test]
fn others_see_what_comes_to_a_pod() {
    if may_run() {
        coexist::on_a_pods_device();
    }
}
