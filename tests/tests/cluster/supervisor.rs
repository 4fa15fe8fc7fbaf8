//! The supervisor dies: nodes, API server and published ports stay, and the next `weft up` takes them over as they are.
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use local_cluster::{Cluster, Status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::built::{succeeded, weft};

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kills it, and expects the same processes under a new one after `up`.
pub(crate) fn dies_and_is_replaced(name: &str) {
    let cluster = Cluster::running(name).expect("the cluster runs");
    let before = cluster.state();
    kill(Pid::from_raw(before.supervisor), Signal::SIGKILL).expect("the supervisor runs");
    let deadline = Instant::now() + PATIENCE;
    while !matches!(Cluster::status(name), Ok(Status::Orphaned(_))) {
        assert!(Instant::now() < deadline, "the cluster is not seen as without supervisor");
        thread::sleep(Duration::from_millis(20));
    }
    answers(&cluster, "without a supervisor");
    let up = weft().args(["up", "--name", name]).output().expect("weft starts");
    succeeded("weft up after the supervisor's death", &up);
    let errors = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(errors.contains("taking it over"), "{errors}");
    let after = cluster.state();
    assert_ne!(after.supervisor, before.supervisor);
    assert_eq!((after.server, after.outside, after.nodes), (before.server, before.outside, before.nodes));
    answers(&cluster, "after it was taken over");
    restarts_what_ends(&cluster);
}

/// The new supervisor is no parent of what it took over, and still notices an end.
fn restarts_what_ends(cluster: &Cluster) {
    let old = cluster.state().server.expect("the API server runs");
    kill(Pid::from_raw(old), Signal::SIGKILL).expect("the API server runs");
    let deadline = Instant::now() + PATIENCE;
    while cluster.state().server.is_none_or(|pid| pid == old) {
        assert!(Instant::now() < deadline, "the API server is not started again");
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn answers(cluster: &Cluster, when: &str) {
    let publish = cluster.spec.publish.first().expect("the test publishes a port");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, publish.host)).expect("the published port listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200"), "{when}: {text}");
}
