//! Clusters of other families than IPv4 alone, as a user meets them: dual stack, with the acceptance in both families and
//! pods and commands that are told of both families; IPv6 alone, behind a published port on the host's 127.0.0.1.
#[path = "cluster_dual/ask.rs"]
mod ask;
#[path = "cluster_dual/objects.rs"]
mod objects;

use std::sync::Mutex;

use tests::{
    Cluster,
    built::{succeeded, weft},
    cluster::may_run,
};

/// One cluster at a time: two cores are soon busy, and a check that waits is a check that fails.
static ONE: Mutex<()> = Mutex::new(());

/// What some checks of the acceptance print, if they hold.
#[track_caller]
fn checked(cluster: &Cluster, only: &str) -> String {
    let check = weft().args(["check", "--name", cluster.name(), "--only", only]).output();
    succeeded("weft check", &check.expect("weft starts"))
}

#[test]
fn dual_stack() {
    if !may_run() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = Cluster::with_guestbook("dual", &["--nodes", "2", "--ip-family", "dual"]);
    assert!(cluster.said().contains("2 nodes, IPv4 and IPv6"), "{}", cluster.said());
    objects::have_both_families(&cluster);
    ask::tells_of_both_families(&cluster);
    ask::monitor_ends_with_its_reader(&cluster);
    let text = checked(&cluster, "reach,guestbook,netfilter");
    for promise in ["(IPv4)", "(IPv6)", "checks hold"] {
        assert!(text.contains(promise), "no {promise:?} in\n{text}");
    }
    let other = weft().args(["up", "--name", cluster.name(), "--ip-family", "ipv4"]).output();
    let refusal = String::from_utf8_lossy(&other.expect("weft starts").stderr).into_owned();
    assert!(refusal.contains(&format!("cluster {} runs with --ip-family dual", cluster.name())), "{refusal}");
    cluster.down();
}

/// `up` itself waits until the example answers on the published port.
#[test]
fn ipv6_alone() {
    if !may_run() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = Cluster::with_guestbook("six", &["--nodes", "1", "--ip-family", "ipv6"]);
    assert!(cluster.said().contains("1 nodes, IPv6 alone"), "{}", cluster.said());
    let text = checked(&cluster, "reach,guestbook");
    assert!(text.contains("checks hold") && !text.contains("(IPv4)"), "{text}");
    cluster.down();
}
