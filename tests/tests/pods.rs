//! Pods as users write them, each with one behaviour that a user sees: init containers and sidecars, probes and hooks,
//! security contexts, volumes, back-off, ends.
//!
//! All run at once on a cluster of one node, from `pods/pods.yaml`; a case waits for what it expects, with a deadline.
use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{Cluster, Kubectl, kubectl::versions};

const PATIENCE: Duration = Duration::from_secs(90);

/// Pod, place in it, value that comes there.
const STATES: &[(&str, &str, &str)] = &[
    // A sidecar ends after the last container, by itself, and the pod has succeeded.
    ("init-order", "/status/phase", "Succeeded"),
    ("init-order", "/status/initContainerStatuses/1/state/terminated/exitCode", "0"),
    ("init-fail", "/status/phase", "Failed"),
    ("init-fail", "/status/initContainerStatuses/0/state/terminated/exitCode", "3"),
    ("init-fail", "/status/containerStatuses/0/state/waiting/reason", "PodInitializing"),
    ("sec", "/status/phase", "Succeeded"),
    ("sec", "/status/containerStatuses/0/state/terminated/message", "bye\n"),
    ("nonroot", "/status/containerStatuses/0/state/waiting/reason", "CreateContainerConfigError"),
    ("suproot", "/status/containerStatuses/0/state/waiting/reason", "CreateContainerConfigError"),
    ("vols", "/status/phase", "Succeeded"),
    ("oom", "/status/containerStatuses/0/lastState/terminated/reason", "OOMKilled"),
    ("oom", "/status/containerStatuses/0/lastState/terminated/exitCode", "137"),
    ("probes", "/status/containerStatuses/0/ready", "true"),
    ("crash", "/status/containerStatuses/0/restartCount", "2"),
    ("crash", "/status/containerStatuses/0/state/waiting/reason", "CrashLoopBackOff"),
    ("crash", "/status/containerStatuses/0/lastState/terminated/exitCode", "2"),
    ("poststartfail", "/status/containerStatuses/0/lastState/terminated/exitCode", "137"),
];

/// Pod, event, part of its message.
const EVENTS: &[(&str, &str, &str)] = &[
    ("hptype", "FailedMount", "hostPath type check failed: /nowhere is not a directory"),
    ("nonroot", "Failed", "Error: container has runAsNonRoot and image will run as root"),
    ("suproot", "Failed", "subPath \"link\" leads out of volume \"v\""),
    ("poststartfail", "FailedPostStartHook", "PostStartHook failed"),
    ("crash", "BackOff", "Back-off restarting failed container main in pod crash_default("),
    ("probes", "Unhealthy", "Startup probe failed:"),
];

/// Pod, what its log holds.
const LOGS: &[(&str, &str)] = &[
    ("init-order", "a\nside\nb\n"),
    ("sec", "uid=1000 gid=2000 groups=2000,3000,4000\n"),
    ("sec", "touch: /x: Read-only file system\n"),
    ("sec", "1000     3000"),
    ("sec", "CapBnd:\t0000000000000400\nNoNewPrivs:\t1\n"),
    ("sec", "\n80\n"),
    ("vols", "/v/s/t/f\n"),
    ("vols", "/v/vols/x/g\n"),
    ("vols", "tmpfs                     8192"),
    ("vols", "-r--------"),
    ("vols", "l=\"x\""),
    ("vols", "nm\none\ntok\ntwo\nvols"),
];

/// What a case last saw when its time was up.
#[track_caller]
fn until(what: &str, look: impl Fn() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) => assert!(Instant::now() < end, "{what}: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn pod(kubectl: &Kubectl, name: &str) -> Value {
    serde_json::from_str(&kubectl.good(&["get", "pod", name, "-o", "json"])).expect("JSON")
}

fn comes(kubectl: &Kubectl, name: &str, place: &str, expected: &str) {
    until(&format!("{name} {place} = {expected}"), || {
        let pod = pod(kubectl, name);
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match pod.pointer(place).map(text) {
            Some(value) if value == expected => Ok(()),
            other => Err(format!("{other:?}\n{}", pod["status"])),
        }
    });
}

fn told(kubectl: &Kubectl, name: &str, reason: &str, message: &str) {
    until(&format!("{name}: {reason}"), || {
        let fields = format!("involvedObject.name={name},reason={reason}");
        let text = kubectl.good(&["get", "events", "--field-selector", &fields, "-o", "jsonpath={.items[*].message}"]);
        if text.contains(message) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn pods_as_users_write_them() {
    let cluster = Cluster::up("pods", &["busybox-1.0"], &["--nodes", "1"]);
    let kubectl = cluster.kubectl(&versions(&[33])[0]);
    let manifests = include_str!("pods/pods.yaml").replace("DIRECTORY", &cluster.dir().display().to_string());
    kubectl.apply(&manifests);
    for (name, place, expected) in STATES {
        comes(&kubectl, name, place, expected);
    }
    for (name, reason, message) in EVENTS {
        told(&kubectl, name, reason, message);
    }
    for (name, part) in LOGS {
        let log = kubectl.good(&["logs", name, "--all-containers"]);
        assert!(log.contains(part), "{name}: no {part:?} in\n{log}");
    }
    logs(&kubectl);
    probes_and_hooks(&kubectl, &cluster);
}

/// Of an earlier run, from its end, of the last moments.
fn logs(kubectl: &Kubectl) {
    let previous = kubectl.good(&["logs", "crash", "--previous"]);
    let current = kubectl.good(&["logs", "crash"]);
    assert!(previous.starts_with("run ") && current.starts_with("run ") && previous != current, "{previous}{current}");
    let all = kubectl.good(&["logs", "vols"]);
    let last = format!("{}\n", all.lines().rev().nth(1).expect("several lines"));
    assert!(kubectl.good(&["logs", "vols", "--tail=2"]).starts_with(&last), "{all}");
    assert_eq!(kubectl.good(&["logs", "vols", "--limit-bytes=5"]), &all[..5]);
    let stamped = kubectl.good(&["logs", "vols", "--timestamps", "--tail=1"]);
    assert!(stamped.starts_with("20") && stamped.contains("Z "), "{stamped}");
    until("a log gets older than a second", || match kubectl.good(&["logs", "vols", "--since=1s"]) {
        text if text.is_empty() => Ok(()),
        text => Err(text),
    });
}

/// A failing liveness probe restarts the container, once; its end runs the hook.
fn probes_and_hooks(kubectl: &Kubectl, cluster: &Cluster) {
    let hooks = cluster.dir().join("hooks");
    assert_eq!(fs::read_to_string(hooks.join("post")).expect("postStart ran"), "post\n");
    assert!(!hooks.join("stopped").exists(), "nothing has ended yet");
    kubectl.good(&["exec", "probes", "--", "touch", "/dead"]);
    comes(kubectl, "probes", "/status/containerStatuses/0/restartCount", "1");
    told(kubectl, "probes", "Killing", "Container main failed liveness probe, will be restarted");
    assert!(hooks.join("stopped").exists(), "preStop ran before the end");
    comes(kubectl, "probes", "/status/containerStatuses/0/ready", "true");
    fs::remove_file(hooks.join("stopped")).expect("it is there");
    kubectl.good(&["delete", "pod", "probes", "--timeout=60s"]);
    assert!(hooks.join("stopped").exists(), "preStop ran before the deletion");
}
