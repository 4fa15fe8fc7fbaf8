//! Agents that die, restart and replace each other, while 200 connections and 10,000 datagrams a second cross the nodes.
//!
//! Another size of a table is another layout to the loader: another set of maps, written in full, then other programs. The
//! version before the last change of the flows' rows is `weft-former`, a program of its own with its own programs of the
//! datapath: nodes begin with it, are upgraded, and go back to it.
use std::net::Ipv4Addr;

use abi::flow::{FORMER, LAYOUT};

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::json;

use crate::{
    lab::{Node, tell_of_pod},
    traffic::{self, RATE, Traffic},
};

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);

/// A step, and the numbers of the datagrams that it saw.
struct Phase {
    name: &'static str,
    from: u64,
    to: u64,
}

pub(crate) fn agents_come_and_go() {
    let mut nodes = Node::two();
    nodes.iter_mut().for_each(Node::start_former_agent);
    let (client, client_address) = nodes[0].pod("a", &json!({}));
    let (server, server_address) = nodes[1].pod("b", &json!({}));
    tell_of_pod(&nodes, "a", 1, client_address);
    tell_of_pod(&nodes, "b", 2, server_address);
    nodes.iter().for_each(|node| service(node, server_address));
    traffic::serve(&server, server_address);
    let reach = [(server_address, 8080), (SERVICE, 80)];
    nodes[0].wait_for("the way to the server", || {
        reach.iter().all(|to| {
            let to = (*to).into();
            client.within(move || std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_secs(1)).is_ok())
        })
    });

    let (refused, backlog) = ([&client, &server].map(traffic::refused), traffic::backlog());
    let traffic = Traffic::start(&client, server_address, SERVICE);
    // Datagrams are promoted after two seconds both ways.
    traffic.goes_on(3 * RATE);
    let mut phases = vec![Phase { name: "before", from: 0, to: traffic.sent() }];
    let mut phase = |name: &'static str, step: Step<'_>| {
        let from = traffic.sent();
        for node in &mut nodes {
            step(node);
            traffic.goes_on(RATE / 2);
        }
        phases.push(Phase { name, from, to: traffic.sent() });
    };
    steps(&mut phase);
    let result = traffic.end();
    let explained = [&client, &server].map(traffic::refused).iter().sum::<u64>() - refused.iter().sum::<u64>()
        + (traffic::backlog() - backlog);
    report(&phases, &result, explained);
    let lost: usize = phases.iter().map(|phase| result.lost(phase.from, phase.to)).sum();
    let logs = || nodes.iter().map(Node::log).collect::<String>();
    assert!(result.broken.is_empty(), "connections broke: {:?}\n{}", result.broken, logs());
    assert!(lost as u64 <= explained, "{lost} datagrams are lost, {explained} explained\n{}", logs());
}

/// What is done to a node.
type Step<'a> = &'a mut dyn FnMut(&mut Node);

fn steps(phase: &mut dyn FnMut(&'static str, Step<'_>)) {
    let own = [format!("flows-{LAYOUT}-"), format!("flows-{FORMER}-")];
    let is = |set: &String, own: &String| set.starts_with(own.as_str());
    phase("from a version with the former layout of flows, and one name for each map", &mut |node| {
        node.end_agent(SIGKILL);
        one_name_each(node);
        node.start_agent(&[]);
        let left = node.pins("maps");
        assert_eq!(left, ["COUNTERS", "EVENTS", "FRAGS", "POD_FLOWS"]);
        let sets = flow_tables(node);
        assert!(sets.len() == 1 && is(&sets[0], &own[0]), "{sets:?}");
    });
    phase("kill -9, then a start", &mut |node| {
        node.end_agent(SIGKILL);
        node.start_agent(&[]);
    });
    let mut sets = Vec::new();
    let mut restart = |node: &mut Node, flags: &[&str]| {
        let before = node.pins("");
        node.end_agent(SIGTERM);
        node.start_agent(flags);
        sets = changed(&before, &node.pins(""));
        sets.clone()
    };
    phase("a restart", &mut |node| assert_eq!(restart(node, &[]), [""; 0]));
    let upgrade = ["--flow-events", "--table-rows", "PEERS=65536", "--table-rows", "SERVICES=16384"];
    phase("other programs and compiled tables", &mut |node| {
        let changed = restart(node, &upgrade);
        assert!(changed.len() == 1 && changed[0].starts_with("tables-"), "{changed:?}");
    });
    let larger = ["--table-rows", "FLOWS=131072"];
    phase("flow tables of another size", &mut |node| {
        let changed = restart(node, &larger);
        assert!(changed.iter().any(|set| is(set, &own[0])), "{changed:?}");
    });
    phase("this version keeps the former layout too", &mut |node| {
        let kept = restart(node, &["--hand-over", &FORMER.to_string()]);
        assert!(own.iter().all(|layout| kept.iter().any(|set| is(set, layout))), "{kept:?}");
    });
    phase("the former version takes over, by kill -9 of this one", &mut |node| {
        node.end_agent(SIGKILL);
        node.start_former_agent();
        let sets = flow_tables(node);
        assert!(sets.len() == 1 && is(&sets[0], &own[1]), "{sets:?}");
    });
    phase("this version again, by kill -9 of the former one", &mut |node| {
        node.end_agent(SIGKILL);
        node.start_agent(&[]);
        let sets = flow_tables(node);
        assert!(sets.len() == 1 && is(&sets[0], &own[0]), "{sets:?}");
    });
}

/// Its sets of flow tables.
fn flow_tables(node: &Node) -> Vec<String> {
    node.pins("").into_iter().filter(|set| set.starts_with("flows-")).collect()
}

/// Pins as versions had them that knew no sets.
fn one_name_each(node: &Node) {
    let root = node.path("bpf/weft");
    node.within(move || {
        for link in ["tables", "flows"].map(|name| root.join(name)) {
            let set = root.join(std::fs::read_link(&link).expect("a link"));
            for map in std::fs::read_dir(&set).expect("a set").flatten() {
                std::fs::rename(map.path(), root.join("maps").join(map.file_name())).expect("moved");
            }
            std::fs::remove_dir(&set).expect("empty");
            std::fs::remove_file(&link).expect("removed");
        }
    });
}

/// Sets of maps that were not there before.
fn changed(before: &[String], now: &[String]) -> Vec<String> {
    let new = now.iter().filter(|set| set.contains('-') && !before.contains(set));
    new.cloned().collect()
}

fn service(node: &Node, server: Ipv4Addr) {
    node.api.put(
        "/apis/discovery.k8s.io/v1/endpointslices",
        json!({ "addressType": "IPv4",
            "metadata": { "name": "web-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [server.to_string()], "nodeName": "n2" }] }),
    );
    node.api.put(
        "/api/v1/services",
        json!({ "metadata": { "name": "web", "namespace": "default" },
            "spec": { "type": "ClusterIP", "clusterIP": SERVICE.to_string(), "ports": [{ "port": 80 }] } }),
    );
}

fn report(phases: &[Phase], result: &traffic::Result, explained: u64) {
    for Phase { name, from, to } in phases {
        println!("{name}: {} datagrams, {} lost", to - from, result.lost(*from, *to));
    }
    println!(
        "{} connections, {} broken; {explained} datagrams refused by full buffers of sockets and devices",
        traffic::CONNECTIONS,
        result.broken.len()
    );
}
