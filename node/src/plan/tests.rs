//! Plans for pods in every state that matters.

use super::*;
use crate::runtime::{ContainerConfig, Exit, PodId};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a small number")
}

pub(crate) fn container(name: &str, attempt: u32, sandbox: &str, state: &str) -> Container {
    let code = state.parse::<i32>().ok();
    Container {
        id: format!("{name}-{attempt}"),
        sandbox: sandbox.to_owned(),
        pod: PodId::default(),
        config: ContainerConfig { name: name.to_owned(), attempt, ..ContainerConfig::default() },
        image_id: "sha256:1".to_owned(),
        state: if code.is_some() {
            State::Exited
        } else if state == "running" {
            State::Running
        } else {
            State::Created
        },
        created_at: at(i64::from(attempt)),
        started_at: (state != "created").then(|| at(i64::from(attempt))),
        exit: code.map(|code| Exit {
            code,
            signal: 0,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: String::new(),
            at: at(100),
        }),
    }
}

pub(crate) fn sandbox(id: &str, attempt: u32, ready: bool) -> Sandbox {
    Sandbox {
        id: id.to_owned(),
        pod: PodId::default(),
        attempt,
        ready,
        ips: vec!["10.244.0.9".parse().expect("ip")],
        created_at: at(0),
    }
}

pub(crate) fn pod(policy: &str, init: &[&str], main: &[&str]) -> Pod {
    let spec = |name: &&str| match name.strip_prefix('+') {
        Some(sidecar) => serde_json::json!({"name": sidecar, "restartPolicy": "Always"}),
        None => serde_json::json!({"name": name}),
    };
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init.iter().map(spec).collect::<Vec<_>>(), "containers": main.iter().map(spec).collect::<Vec<_>>()},
    }))
    .expect("a pod")
}

/// A step in one word: `sandbox:0`, `start:a:1`, `kill:a`, `wait:a`, `finish`.
fn word(step: &Step) -> String {
    match step {
        Step::Sandbox { attempt } => format!("sandbox:{attempt}"),
        Step::Start { name, attempt, .. } => format!("start:{name}:{attempt}"),
        Step::Kill { name, .. } => format!("kill:{name}"),
        Step::Wait { name, .. } => format!("wait:{name}"),
        Step::Finish => "finish".to_owned(),
    }
}

#[track_caller]
fn check(pod: &Pod, sandboxes: &[Sandbox], containers: &[Container], expected: &[&str]) {
    let mut backoff = Backoff::default();
    backoff.count("crashing", at(90));
    let input = Input {
        pod,
        containers,
        sandboxes,
        backoff: &backoff,
        failed_probe: &|id| (id == "sick-0").then_some("liveness"),
        started: &|id| id != "slow-0",
        now: at(100),
    };
    assert_eq!(plan(&input).iter().map(word).collect::<Vec<_>>(), expected);
}

#[test]
fn sandboxes_come_first() {
    let simple = pod("Always", &[], &["a"]);
    check(&simple, &[], &[], &["sandbox:0"]);
    check(&simple, &[sandbox("s", 0, false)], &[container("a", 0, "s", "255")], &["sandbox:1"]);
    check(&simple, &[sandbox("s", 0, true)], &[], &["start:a:0"]);
}

#[test]
fn restart_policies() {
    let ready = [sandbox("s", 0, true)];
    let ended = |code: &str| [container("a", 0, "s", code)];
    check(&pod("Always", &[], &["a"]), &ready, &ended("0"), &["start:a:1"]);
    check(&pod("OnFailure", &[], &["a"]), &ready, &ended("1"), &["start:a:1"]);
    check(&pod("OnFailure", &[], &["a"]), &ready, &ended("0"), &["finish"]);
    check(&pod("Never", &[], &["a"]), &ready, &ended("1"), &["finish"]);
    check(
        &pod("Never", &[], &["a", "b"]),
        &ready,
        &[container("a", 0, "s", "0"), container("b", 0, "s", "running")],
        &[],
    );
    check(&pod("Never", &[], &["a"]), &[sandbox("s", 0, false)], &ended("255"), &["finish"]);
    check(&pod("Always", &[], &["a"]), &ready, &[container("a", 0, "s", "1"), container("a", 1, "s", "running")], &[]);
    check(&pod("Always", &[], &["a"]), &ready, &[container("a", 0, "s", "created")], &["start:a:0"]);
}

#[test]
fn backoff_and_probes() {
    let ready = [sandbox("s", 0, true)];
    check(&pod("Always", &[], &["crashing"]), &ready, &[container("crashing", 0, "s", "1")], &["wait:crashing"]);
    check(&pod("Always", &[], &["sick"]), &ready, &[container("sick", 0, "s", "running")], &["kill:sick"]);
}

#[test]
fn init_containers_in_order() {
    let two = pod("Always", &["i", "j"], &["a"]);
    let ready = [sandbox("s", 0, true)];
    check(&two, &ready, &[], &["start:i:0"]);
    check(&two, &ready, &[container("i", 0, "s", "running")], &[]);
    check(&two, &ready, &[container("i", 0, "s", "0")], &["start:j:0"]);
    check(&two, &ready, &[container("i", 0, "s", "1")], &["start:i:1"]);
    check(&two, &ready, &[container("i", 0, "s", "0"), container("j", 0, "s", "0")], &["start:a:0"]);
    check(&two, &ready, &[container("a", 0, "s", "running")], &[]);
    check(
        &two,
        &[sandbox("t", 1, true)],
        &[container("i", 0, "s", "0"), container("a", 0, "s", "255")],
        &["start:i:1"],
    );
    check(&pod("Never", &["i"], &["a"]), &ready, &[container("i", 0, "s", "1")], &["finish"]);
}

#[test]
fn sidecars_run_beside() {
    let ready = [sandbox("s", 0, true)];
    check(&pod("Always", &["+side", "i"], &["a"]), &ready, &[], &["start:side:0"]);
    check(&pod("Always", &["+side", "i"], &["a"]), &ready, &[container("side", 0, "s", "running")], &["start:i:0"]);
    check(&pod("Always", &["+slow", "i"], &["a"]), &ready, &[container("slow", 0, "s", "running")], &[]);
    let running = [container("side", 0, "s", "1"), container("a", 0, "s", "running")];
    check(&pod("Always", &["+side"], &["a"]), &ready, &running, &["start:side:1"]);
}

#[test]
fn the_message_of_a_backoff() {
    let mut backoff = Backoff::default();
    backoff.count("a", at(90));
    let (pod, sandboxes, containers) =
        (pod("Always", &[], &["a"]), [sandbox("s", 0, true)], [container("a", 0, "s", "1")]);
    let input = Input {
        pod: &pod,
        containers: &containers,
        sandboxes: &sandboxes,
        backoff: &backoff,
        failed_probe: &|_| None,
        started: &|_| true,
        now: at(103),
    };
    let message = "back-off 10s restarting failed container=a pod=p_ns(u)".to_owned();
    assert_eq!(plan(&input), [Step::Wait { name: "a".into(), left: SignedDuration::from_secs(7), message }]);
}
