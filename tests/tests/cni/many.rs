//! Many at once, and a range that is used up.
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    RANGE,
    lab::{Call, Lab, on_a_node},
    namespaces::Namespace,
};

/// Runs every call at once; each must succeed. The results and the time for all.
#[track_caller]
fn at_once(calls: Vec<Call>) -> (Vec<serde_json::Value>, Duration) {
    let start = Instant::now();
    let running: Vec<_> = calls.into_iter().map(|call| std::thread::spawn(move || call.succeeds())).collect();
    let results = running.into_iter().map(|call| call.join().expect("it succeeds")).collect();
    (results, start.elapsed())
}

#[test]
fn fifty_at_once() {
    on_a_node(RANGE, |lab| {
        let pods: Vec<(String, Namespace)> = (0..50).map(|n| (format!("p{n}"), Namespace::new())).collect();
        pods.iter().for_each(|(name, _)| lab.pod(name));
        let calls = |lab: &Lab, command: &str| -> Vec<Call> {
            pods.iter().map(|(name, namespace)| lab.call(command, name, namespace)).collect()
        };
        let (results, added) = at_once(calls(lab, "ADD"));
        let addresses: BTreeSet<String> =
            results.iter().map(|result| result["ips"][0]["address"].to_string()).collect();
        assert_eq!(addresses.len(), 50);
        let memory = lab.agent_memory();
        let (_, removed) = at_once(calls(lab, "DEL"));
        assert_eq!(lab.traces(), [""; 0]);
        let mut times = [Vec::new(), Vec::new()];
        for (name, namespace) in &pods {
            for (command, times) in ["ADD", "DEL"].into_iter().zip(&mut times) {
                let start = Instant::now();
                lab.call(command, name, namespace).succeeds();
                times.push(start.elapsed());
            }
        }
        println!("50 at once: ADD {} ms, DEL {} ms", added.as_millis(), removed.as_millis());
        println!("the agent with 50 pods: {memory}");
        for (command, times) in ["ADD", "DEL"].into_iter().zip(&mut times) {
            times.sort_unstable();
            println!("one by one: {command} p50 {:.1?}, p99 {:.1?}", times[25], times[49]);
        }
    });
}

#[test]
fn a_range_that_is_used_up() {
    on_a_node("", |lab| {
        let status = lab.call("STATUS", "none", &Namespace::new());
        status.fails(50, "spec.podCIDR");
        lab.pod("p0");
        let first = Namespace::new();
        let patience = json!({ "timeoutSeconds": 2 });
        lab.call("ADD", "p0", &first).with(lab.config("1.1.0", &patience)).fails(11, "spec.podCIDR");
        assert_eq!(lab.traces(), [""; 0]);
        // Five addresses are left for pods of a /29.
        lab.node("10.244.0.0/29");
        lab.wait_for("the range", |_| status.run().status == 0);
        // What its node says of itself; kubelet's own conditions stay.
        let says = |lab: &Lab, status: &str| {
            let node = lab.api.get("/api/v1/nodes/n1").expect("a Node");
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.into_iter().find(|one| one["type"] == "weft.net/AddressesExhausted" && one["status"] == status)
        };
        lab.wait_for("the condition", |lab| says(lab, "False").is_some());
        let pods: Vec<(String, Namespace)> = (0..6).map(|n| (format!("p{n}"), Namespace::new())).collect();
        for (name, namespace) in &pods[..4] {
            lab.pod(name);
            lab.call("ADD", name, namespace).succeeds();
        }
        // The last address, for a pod that nobody knows: it was no one's, and is the next pod's at once.
        let patience = json!({ "timeoutSeconds": 1 });
        let unknown = lab.call("ADD", "unknown", &pods[4].1).with(lab.config("1.1.0", &patience));
        unknown.fails(11, "the API server has not told of this pod");
        lab.pod("p4");
        lab.call("ADD", "p4", &pods[4].1).succeeds();
        lab.wait_for("the condition", |lab| says(lab, "True").is_some());
        let full = says(lab, "True").expect("it is there");
        assert!(full["message"].as_str().is_some_and(|text| text.contains("all 5 are in use")), "{full}");
        // The next agent finds it so, and leaves the time of the change.
        lab.kill_agent();
        lab.start_agent();
        lab.wait_for("the agent", |_| status.run().text.contains("no address is left"));
        assert_eq!(says(lab, "True"), Some(full));
        let (name, namespace) = &pods[5];
        lab.pod(name);
        lab.call("ADD", name, namespace).fails(100, "no address is left in 10.244.0.0/29");
        status.fails(50, "no address is left in 10.244.0.0/29");
        lab.call("DEL", &pods[2].0, &pods[2].1).succeeds();
        status.succeeds();
        lab.wait_for("the condition to go", |lab| says(lab, "False").is_some());
        let again = lab.call("ADD", name, namespace);
        again.fails(11, "rest for");
        lab.wait_for("the address to have rested", |_| again.run().status == 0);
    });
}
