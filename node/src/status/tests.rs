//! Statuses of pods as kubectl would show them.

use super::*;
use crate::plan::tests::{at, container, pod, sandbox};

struct Case {
    pod: Pod,
    containers: Vec<Container>,
    sandbox: Option<Sandbox>,
    waiting: BTreeMap<String, Waiting>,
    unready: Vec<&'static str>,
    terminating: bool,
    old: PodStatus,
    node: &'static str,
}

impl Case {
    fn new(pod: Pod, containers: &[Container]) -> Self {
        Self {
            pod,
            containers: containers.to_vec(),
            sandbox: Some(sandbox("s", 0, true)),
            waiting: BTreeMap::new(),
            unready: vec![],
            terminating: false,
            old: PodStatus::default(),
            node: "172.31.0.11",
        }
    }

    fn waiting(mut self, name: &str, reason: &str) -> Self {
        self.waiting.insert(name.to_owned(), Waiting { reason: reason.to_owned(), message: "m".to_owned() });
        self
    }

    fn status(&self) -> PodStatus {
        generate(&Input {
            pod: &self.pod,
            old: &self.old,
            containers: &self.containers,
            sandbox: self.sandbox.as_ref(),
            waiting: &self.waiting,
            probed: &|id| Probed { started: true, ready: !self.unready.contains(&id) },
            messages: &BTreeMap::new(),
            node_ips: self.node.parse().expect("addresses"),
            terminating: self.terminating,
            now: at(200),
        })
    }

    /// `phase | state of each container | conditions that are not True`.
    fn line(&self) -> String {
        let status = self.status();
        let state = |one: &ContainerStatus| {
            let state = one.state.clone().unwrap_or_default();
            let text = match (state.waiting, state.running, state.terminated) {
                (Some(waiting), _, _) => waiting.reason.unwrap_or_default(),
                (_, Some(_), _) => if one.ready { "ready" } else { "running" }.to_owned(),
                (_, _, Some(end)) => end.reason.unwrap_or_default(),
                _ => String::new(),
            };
            let last = one
                .last_state
                .clone()
                .unwrap_or_default()
                .terminated
                .map(|end| format!("<{}", end.reason.unwrap_or_default()))
                .unwrap_or_default();
            format!("{}:{text}:{}{last}", one.name, one.restart_count)
        };
        let states = status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .map(state)
            .collect::<Vec<_>>()
            .join(" ");
        let not = status.conditions.iter().flatten().filter(|one| one.status != "True");
        let not = not
            .map(|one| format!("{}={}", one.type_, one.reason.clone().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(" ");
        format!("{} | {states} | {not}", status.phase.unwrap_or_default())
    }
}

#[track_caller]
fn check(case: &Case, expected: &str) {
    assert_eq!(case.line(), expected);
}

const NOT_READY: &str = "Ready=ContainersNotReady ContainersReady=ContainersNotReady";

#[test]
fn a_pod_comes_up() {
    let simple = || pod("Always", &[], &["a"]);
    let nothing = Case { sandbox: None, ..Case::new(simple(), &[]) };
    check(&nothing, &format!("Pending | a:ContainerCreating:0 | PodReadyToStartContainers= {NOT_READY}"));
    check(&Case::new(simple(), &[]), &format!("Pending | a:ContainerCreating:0 | {NOT_READY}"));
    check(&Case::new(simple(), &[]).waiting("a", "ErrImagePull"), &format!("Pending | a:ErrImagePull:0 | {NOT_READY}"));
    check(&Case::new(simple(), &[container("a", 0, "s", "running")]), "Running | a:ready:0 | ");
    let unready = Case { unready: vec!["a-0"], ..Case::new(simple(), &[container("a", 0, "s", "running")]) };
    check(&unready, &format!("Running | a:running:0 | {NOT_READY}"));
}

#[test]
fn ends_and_restarts() {
    let ended = |code: &str| [container("a", 0, "s", code)];
    check(&Case::new(pod("Always", &[], &["a"]), &ended("1")), &format!("Running | a:Error:0 | {NOT_READY}"));
    check(
        &Case::new(pod("Always", &[], &["a"]), &ended("1")).waiting("a", "CrashLoopBackOff"),
        &format!("Running | a:CrashLoopBackOff:0<Error | {NOT_READY}"),
    );
    let again = [container("a", 0, "s", "1"), container("a", 1, "s", "running")];
    check(&Case::new(pod("Always", &[], &["a"]), &again), "Running | a:ready:1<Error | ");
    check(
        &Case::new(pod("Never", &[], &["a"]), &ended("0")),
        "Succeeded | a:Completed:0 | Ready=PodCompleted ContainersReady=PodCompleted",
    );
    check(
        &Case::new(pod("Never", &[], &["a"]), &ended("1")),
        "Failed | a:Error:0 | Ready=PodFailed ContainersReady=PodFailed",
    );
    check(&Case::new(pod("OnFailure", &[], &["a"]), &ended("1")), &format!("Running | a:Error:0 | {NOT_READY}"));
}

#[test]
fn initialisation() {
    let with_init = || pod("Always", &["i"], &["a"]);
    let waits = format!("Pending | i:running:0 a:PodInitializing:0 | Initialized=ContainersNotInitialized {NOT_READY}");
    check(&Case::new(with_init(), &[container("i", 0, "s", "running")]), &waits);
    check(
        &Case::new(with_init(), &[container("i", 0, "s", "0")]),
        &format!("Pending | i:Completed:0 a:ContainerCreating:0 | {NOT_READY}"),
    );
    let failed = Case::new(pod("Never", &["i"], &["a"]), &[container("i", 0, "s", "1")]);
    check(
        &failed,
        "Failed | i:Error:0 a:PodInitializing:0 | Initialized=ContainersNotInitialized Ready=PodFailed ContainersReady=PodFailed",
    );
}

#[test]
fn deletion_decides_the_phase() {
    let terminating = |code: &str| Case {
        terminating: true,
        ..Case::new(pod("Always", &[], &["a"]), &[container("a", 0, "s", code)])
    };
    check(&terminating("0"), "Succeeded | a:Completed:0 | Ready=PodCompleted ContainersReady=PodCompleted");
    check(&terminating("137"), "Failed | a:Error:0 | Ready=PodFailed ContainersReady=PodFailed");
    check(&terminating("running"), "Running | a:ready:0 | ");
}

/// `podIP podIPs | hostIP hostIPs` of a pod whose network gave it an address of each family.
#[track_caller]
fn check_addresses(node: &'static str, host_network: bool, expected: &str) {
    let mut pod = pod("Always", &[], &["a"]);
    pod.spec.as_mut().expect("spec").host_network = Some(host_network);
    let mut case = Case { node, ..Case::new(pod, &[container("a", 0, "s", "running")]) };
    let network = ["10.244.0.9".parse().expect("ip"), "fd00:10:244::9".parse().expect("ip")];
    case.sandbox.as_mut().expect("a sandbox").ips = network.to_vec();
    let status = case.status();
    let pod_ips: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    let host_ips: Vec<String> = status.host_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    let (pod_ip, host_ip) = (status.pod_ip.unwrap_or_default(), status.host_ip.unwrap_or_default());
    assert_eq!(format!("{pod_ip} {} | {host_ip} {}", pod_ips.join(","), host_ips.join(",")), expected);
}

#[test]
fn the_nodes_primary_family_comes_first() {
    check_addresses(
        "172.31.0.11,fd00::11",
        false,
        "10.244.0.9 10.244.0.9,fd00:10:244::9 | 172.31.0.11 172.31.0.11,fd00::11",
    );
    check_addresses(
        "fd00::11,172.31.0.11",
        false,
        "fd00:10:244::9 fd00:10:244::9,10.244.0.9 | fd00::11 fd00::11,172.31.0.11",
    );
    check_addresses("fd00::11,172.31.0.11", true, "fd00::11 fd00::11,172.31.0.11 | fd00::11 fd00::11,172.31.0.11");
    check_addresses("172.31.0.11", true, "172.31.0.11 172.31.0.11 | 172.31.0.11 172.31.0.11");
}

#[test]
fn times_and_addresses_stay() {
    let case = Case::new(pod("Always", &[], &["a"]), &[container("a", 0, "s", "running")]);
    let first = case.status();
    assert_eq!((first.pod_ip.as_deref(), first.host_ip.as_deref()), (Some("10.244.0.9"), Some("172.31.0.11")));
    let mut old = first.clone();
    old.start_time = Some(Time(at(5)));
    for condition in old.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(Time(at(7)));
    }
    let later = Case { old, unready: vec!["a-0"], sandbox: None, ..case }.status();
    assert_eq!((later.start_time, later.pod_ip.as_deref()), (Some(Time(at(5))), Some("10.244.0.9")));
    let times: Vec<(String, i64)> = later
        .conditions
        .into_iter()
        .flatten()
        .map(|one| (one.type_, one.last_transition_time.expect("time").0.as_second()))
        .collect();
    let expected = [
        ("PodReadyToStartContainers", 200),
        ("Initialized", 7),
        ("Ready", 200),
        ("ContainersReady", 200),
        ("PodScheduled", 7),
    ];
    assert_eq!(times, expected.map(|(kind, second)| (kind.to_owned(), second)));
}
