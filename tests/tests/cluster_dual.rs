//! Clusters of other families than IPv4 alone, as a user meets them: dual stack, with the acceptance in both families and
//! pods and commands that are told of both families; IPv6 alone, behind a published port on the host's 127.0.0.1.
#[path = "cluster_dual/ask.rs"]
mod ask;
#[path = "cluster_dual/objects.rs"]
mod objects;
#[path = "cluster/place.rs"]
mod place;

use std::{process::Command, sync::Mutex};

use place::{program, succeeded, up};

/// One cluster at a time: two cores are soon busy, and a check that waits is a check that fails.
static ONE: Mutex<()> = Mutex::new(());

fn may_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: this test starts a local cluster, which needs root");
    }
    root
}

#[test]
fn dual_stack() {
    if !may_run() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = format!("dual-{}", std::process::id());
    let (cluster, text) = up(&name, &["--nodes", "2", "--ip-family", "dual"]);
    assert!(text.contains("2 nodes, IPv4 and IPv6"), "{text}");
    objects::have_both_families(&cluster);
    ask::tells_of_both_families(&cluster);
    ask::monitor_ends_with_its_reader(&cluster);
    let only = "reach,guestbook,netfilter";
    let check = Command::new(program("weft")).args(["check", "--name", &name, "--only", only]).output();
    let text = succeeded("weft check", &check.expect("weft starts"));
    for promise in ["(IPv4)", "(IPv6)", "checks hold"] {
        assert!(text.contains(promise), "no {promise:?} in\n{text}");
    }
    let other = Command::new(program("weft")).args(["up", "--name", &name, "--ip-family", "ipv4"]).output();
    let refusal = String::from_utf8_lossy(&other.expect("weft starts").stderr).into_owned();
    assert!(refusal.contains(&format!("cluster {name} runs with --ip-family dual")), "{refusal}");
    cluster.down();
}

/// `up` itself waits until the example answers on the published port.
#[test]
fn ipv6_alone() {
    if !may_run() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let name = format!("six-{}", std::process::id());
    let (cluster, text) = up(&name, &["--nodes", "1", "--ip-family", "ipv6"]);
    assert!(text.contains("1 nodes, IPv6 alone"), "{text}");
    let check = Command::new(program("weft")).args(["check", "--name", &name, "--only", "reach,guestbook"]).output();
    let text = succeeded("weft check", &check.expect("weft starts"));
    assert!(text.contains("checks hold") && !text.contains("(IPv4)"), "{text}");
    cluster.down();
}
