//! What the commands that ask a node's agent say of a dual-stack cluster.
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use tests::{
    Cluster,
    built::{self, succeeded},
};

fn weft(cluster: &Cluster, words: &str) -> Command {
    let mut weft = built::weft();
    weft.args(words.split(' ')).args(["--cluster", cluster.name(), "--node", "node-2"]);
    weft
}

#[track_caller]
fn text(cluster: &Cluster, words: &str) -> String {
    succeeded(&format!("weft {words}"), &weft(cluster, words).output().expect("weft starts"))
}

#[track_caller]
fn json(cluster: &Cluster, words: &str) -> Value {
    serde_json::from_str(&text(cluster, &format!("{words} -o json"))).expect("JSON")
}

/// Pods, routes, flows and tables of node-2, where the pod `both` runs.
pub(crate) fn tells_of_both_families(cluster: &Cluster) {
    let pods = json(cluster, "pod list");
    let both = pods["pods"].as_array().expect("a list").iter().find(|pod| pod["name"] == "both").expect("it runs here");
    assert!(both["ready"] == true && both["addresses"].as_array().expect("a list").len() == 2, "{both}");
    let line = text(cluster, "pod list");
    assert!(line.lines().any(|line| line.contains("default/both") && line.contains(",fd00:10:244:")), "{line}");

    let routes = json(cluster, "route list");
    let remote = |route: &&Value| route["node"] == "node-1" && route["flags"][0] == "pods";
    let remote: Vec<&Value> = routes["routes"].as_array().expect("a list").iter().filter(remote).collect();
    assert!(remote.len() == 2 && remote.iter().all(|route| route["tunnel"] == "172.31.0.11"), "{routes}");

    let flows = json(cluster, "flow list --pod default/both");
    let flow = flows["flows"].as_array().expect("a list").first().expect("its probes, and the question above");
    let ends = [&flow["source"]["name"], &flow["destination"]["name"]];
    assert!(ends.iter().any(|name| **name == "default/both"), "{flow}");

    let status = json(cluster, "status");
    let families: Vec<&Value> = status["addresses"].as_array().expect("a list").iter().map(|a| &a["family"]).collect();
    assert_eq!(families, ["ipv4", "ipv6"], "{status}");
    let page = text(cluster, "status");
    let flows = page.lines().find(|line| line.starts_with("FLOWS ")).expect("a line of FLOWS");
    assert!(flows.contains("262144") && flows.ends_with(" %"), "{page}");
}

/// Whoever reads the monitor may go: it ends without a word, although nothing is dropped.
pub(crate) fn monitor_ends_with_its_reader(cluster: &Cluster) {
    let mut monitor = weft(cluster, "monitor --pod none/such -o json");
    let mut monitor = monitor.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("weft starts");
    let mut errors = BufReader::new(monitor.stderr.take().expect("piped")).lines();
    assert!(errors.next().expect("a line").expect("text").starts_with("watching "));
    drop(monitor.stdout.take());
    let deadline = Instant::now() + Duration::from_secs(10);
    while monitor.try_wait().expect("a child").is_none() {
        if Instant::now() > deadline {
            monitor.kill().expect("a child");
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(monitor.wait().expect("a child").success() && errors.next().is_none());
}
