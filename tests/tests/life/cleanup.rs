//! `weft cleanup` on a node whose pods still run, with host ports and limits: the node is what it was before Weft.
use std::{collections::BTreeSet, process::Command};

use aya::{
    maps::MapInfo,
    programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs},
};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;
use tests::{built::program, network::QUESTIONS};

use crate::lab::Node;

/// What `tc` knows of the node's network.
const FILTERS: [&str; 3] = ["tc qdisc", "tc filter show dev nic0 ingress", "tc filter show dev nic0 egress"];

fn traces(node: &Node) -> Vec<String> {
    let questions = QUESTIONS.iter().chain(&FILTERS);
    let mut traces: Vec<String> = questions.map(|question| format!("{question}\n{}", node.run(question))).collect();
    for place in ["bpf", "cni", "bin", "state", "agent.sock"] {
        traces.push(node.run(&format!("find {} -mindepth 1", node.path(place).display())));
    }
    traces.push(format!("agent.sock {}", node.path("agent.sock").exists()));
    traces
}

/// Kernel objects of this node's: programs on its devices and the stages that these call, and every map of theirs.
fn objects(node: &Node) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let devices = node.run("ip -br link");
    let devices: Vec<String> =
        devices.lines().filter_map(|line| line.split(['@', ' ']).next().map(str::to_owned)).collect();
    let attached: Vec<ProgramInfo> = node.within(move || {
        let ways = [TcAttachType::Ingress, TcAttachType::Egress];
        let all = devices.iter().flat_map(|device| ways.map(|way| (device.clone(), way)));
        all.flat_map(|(device, way)| SchedClassifier::query_tcx(&device, way).map(|(_, list)| list).unwrap_or_default())
            .collect()
    });
    let maps = |program: &ProgramInfo| program.map_ids().ok().flatten().unwrap_or_default();
    let of_hooks: BTreeSet<u32> = attached.iter().flat_map(maps).collect();
    // A stage shares maps with the hooks that call it.
    let programs: Vec<ProgramInfo> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| maps(program).iter().any(|map| of_hooks.contains(map)))
        .collect();
    (programs.iter().map(ProgramInfo::id).collect(), programs.iter().flat_map(maps).collect())
}

pub(crate) fn leaves_nothing() {
    let (mut node, _outside) = Node::one();
    // The NIC's own IPv6 address is tentative for a while.
    node.wait_for("the NIC to be ready", || {
        let said = node.run("ip -o addr show dev nic0");
        said.contains("fe80:")
            && !said.contains("tentative")
            && node.run("ip -o link show dev nic0").contains("state UP")
    });
    let before = traces(&node);
    node.start_agent(&["--cni-plugin", &program("weft-cni").display().to_string()]);
    let ports = json!({ "runtimeConfig": {
        "portMappings": [{ "hostPort": 8088, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 2_000_000, "ingressBurst": 8_000_000,
                       "egressRate": 2_000_000, "egressBurst": 8_000_000 } } });
    let (_plain, _) = node.pod("plain", &json!({}));
    let (_wishful, _) = node.pod("wishful", &ports);
    let (programs, maps) = objects(&node);
    assert!(programs.len() >= 6 && maps.len() >= 17, "{programs:?} {maps:?}");
    assert_ne!(traces(&node), before);
    node.end_agent(SIGTERM);

    let (weft, places) = (program("weft"), node.places());
    let output = node.within(move || Command::new(weft).args(["cleanup", "--node-name", "n1"]).args(places).output());
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("2 pods lose their network"), "{said}");
    let after = traces(&node);
    for (was, is) in before.iter().zip(&after) {
        assert_eq!(was, is);
    }
    // The kernel lets go of what nobody holds a little later.
    node.wait_for("the end of programs and maps", || {
        let alive = loaded_programs().filter_map(Result::ok).any(|program| programs.contains(&program.id()));
        !alive && maps.iter().all(|id| MapInfo::from_id(*id).is_err())
    });
    println!(
        "{} programs and {} maps are gone, and {} lists are what they were",
        programs.len(),
        maps.len(),
        after.len()
    );
    assert!(
        said.contains("--patch='{\"status\"") && said.contains("kubectl patch node n1"),
        "what stays is told: {said}"
    );
    // Once more is no error, and with a way to the API the last trace goes too; then there is none to tell of.
    for told in ["is removed", ""] {
        let (weft, places, kubeconfig) = (program("weft"), node.places(), node.path("kubeconfig"));
        let condition =
            |node: &Node| node.api.get("/api/v1/nodes/n1").expect("a Node")["status"]["conditions"].to_string();
        assert_eq!(condition(&node).contains("AddressesExhausted"), !told.is_empty());
        let mut again = Command::new(weft);
        again.args(["cleanup", "--node-name", "n1", "--kubeconfig"]).arg(kubeconfig).args(places);
        let again = node.within(move || again.output()).expect("it runs");
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success() && said.contains(told), "{said}");
    }
}
