//! Pods: the one STATUS word, restarts, and where they run.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{View, age, cell};
use crate::{decode, path};

pub(super) const VIEW: View =
    View { columns: "Name|Ready|Status|Restarts|Age|*IP|*Node|*Nominated Node|*Readiness Gates", cells };

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart.filter(|_| summary.restarts != 0) {
        Some(then) => format!("{} ({} ago)", summary.restarts, age::human_duration(now.as_second() - then.as_second())),
        None => summary.restarts.to_string(),
    };
    let ip = match path::list(pod, "status.podIPs").first() {
        Some(first) => cell::text(first, "ip", cell::NONE),
        None => cell::text(pod, "status.podIP", cell::NONE),
    };
    vec![
        cell::name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(restarts),
        cell::age(pod, now),
        json!(ip),
        json!(cell::text(pod, "spec.nodeName", cell::NONE)),
        json!(cell::text(pod, "status.nominatedNodeName", cell::NONE)),
        json!(readiness_gates(pod)),
    ]
}

/// The row of a finished pod says so: kubectl can leave it out.
pub(super) fn row_conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match path::str(pod, "status.phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{ "type": "Completed", "status": "True", "reason": reason, "message": message }]))
}

fn readiness_gates(pod: &Value) -> String {
    let gates = path::list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return cell::NONE.to_owned();
    }
    let met = gates.iter().filter(|g| cell::condition(pod, path::str(g, "conditionType")) == Some("True")).count();
    format!("{met}/{}", gates.len())
}

/// What the containers' states come to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts of some containers, and when the last was.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += path::int(status, "restartCount").unwrap_or(0);
        self.last = self.last.max(decode::parse_time(path::str(status, "lastState.terminated.finishedAt")));
    }
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let mut reason = cell::text(pod, "status.reason", path::str(pod, "status.phase")).to_owned();
        let gated = |c: &&Value| path::str(c, "type") == "PodScheduled" && path::str(c, "reason") == "SchedulingGated";
        if path::list(pod, "status.conditions").iter().any(|c| gated(&c)) {
            "SchedulingGated".clone_into(&mut reason);
        }
        let sidecars = path::list(pod, "spec.initContainers").iter().filter(|c| is_sidecar(c)).count();
        let total = path::list(pod, "spec.containers").len() + sidecars;
        let init = Init::of(pod);
        let mut ready = init.ready;
        let mut restarts = init.all;
        let initializing = init.reason.is_some();
        reason = init.reason.unwrap_or(reason);
        if !initializing || cell::condition(pod, "Initialized") == Some("True") {
            restarts = init.sidecars;
            reason = containers(pod, reason, &mut ready, &mut restarts);
        }
        let phase = path::str(pod, "status.phase");
        if !path::get(pod, "metadata.deletionTimestamp").is_null() {
            if path::str(pod, "status.reason") == "NodeLost" {
                "Unknown".clone_into(&mut reason);
            } else if !matches!(phase, "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut reason);
            }
        }
        Summary { reason, ready, total, restarts: restarts.count, last_restart: restarts.last }
    }
}

/// What the init containers come to.
struct Init {
    /// The STATUS word, while they are not done.
    reason: Option<String>,
    ready: usize,
    all: Restarts,
    sidecars: Restarts,
}

impl Init {
    fn of(pod: &Value) -> Init {
        let specs = path::list(pod, "spec.initContainers");
        let mut init = Init { reason: None, ready: 0, all: Restarts::default(), sidecars: Restarts::default() };
        for (i, status) in path::list(pod, "status.initContainerStatuses").iter().enumerate() {
            let name = path::str(status, "name");
            let sidecar = specs.iter().any(|c| path::str(c, "name") == name && is_sidecar(c));
            init.all.add(status);
            if sidecar {
                init.sidecars.add(status);
            }
            let terminated = path::get(status, "state.terminated");
            if terminated.is_object() && path::int(terminated, "exitCode").unwrap_or(0) == 0 {
                continue;
            }
            if sidecar && path::bool(status, "started") {
                init.ready += usize::from(path::bool(status, "ready"));
                continue;
            }
            let waiting = path::str(status, "state.waiting.reason");
            init.reason = Some(if terminated.is_object() {
                format!("Init:{}", ended(terminated))
            } else if !matches!(waiting, "" | "PodInitializing") {
                format!("Init:{waiting}")
            } else {
                format!("Init:{i}/{}", specs.len())
            });
            break;
        }
        init
    }
}

/// The word of the containers proper, last to first: the first one's word wins.
fn containers(pod: &Value, mut reason: String, ready: &mut usize, restarts: &mut Restarts) -> String {
    let mut running = false;
    for status in path::list(pod, "status.containerStatuses").iter().rev() {
        restarts.add(status);
        let terminated = path::get(status, "state.terminated");
        let waiting = path::str(status, "state.waiting.reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut reason);
        } else if terminated.is_object() {
            reason = ended(terminated);
        } else if path::bool(status, "ready") && path::get(status, "state.running").is_object() {
            running = true;
            *ready += 1;
        }
    }
    if reason == "Completed" && running {
        let word = if cell::condition(pod, "Ready") == Some("True") { "Running" } else { "NotReady" };
        word.clone_into(&mut reason);
    }
    reason
}

fn ended(terminated: &Value) -> String {
    let (reason, signal) = (path::str(terminated, "reason"), path::int(terminated, "signal").unwrap_or(0));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", path::int(terminated, "exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    path::str(container, "restartPolicy") == "Always"
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the cases are literals")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: Value, status: Value, expected: [&str; 3]) {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let cells = cells(&pod, "1970-01-01T00:10:00Z".parse().unwrap());
        assert_eq!([&cells[1], &cells[2], &cells[3]], expected.map(Value::from).each_ref());
    }

    fn one() -> Value {
        json!({"containers": [{"name": "a"}]})
    }

    #[test]
    fn words() {
        check(one(), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        let running = json!({"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]});
        check(one(), running, ["1/1", "Running", "0"]);
        let waiting = json!({"phase": "Running", "containerStatuses": [{
            "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"finishedAt": "1970-01-01T00:05:00Z"}}}]});
        check(one(), waiting, ["0/1", "CrashLoopBackOff", "3 (5m ago)"]);
        let done = json!({"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
        check(one(), done, ["0/1", "Completed", "0"]);
        let killed = json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]});
        check(one(), killed, ["0/1", "Signal:9", "0"]);
        let evicted = json!({"phase": "Failed", "reason": "Evicted"});
        check(one(), evicted, ["0/1", "Evicted", "0"]);
    }

    #[test]
    fn init_containers_come_first() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let waiting = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]});
        check(spec.clone(), waiting, ["0/2", "Init:0/2", "0"]);
        let failed = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1}}}]});
        check(spec.clone(), failed, ["0/2", "Init:ExitCode:1", "0"]);
        let sidecar = json!({"phase": "Running", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "s", "started": true, "ready": true, "state": {"running": {}}}],
            "containerStatuses": [{"ready": true, "state": {"running": {}}}]});
        check(spec, sidecar, ["2/2", "Running", "0"]);
    }

    #[test]
    fn going_pods_are_terminating() {
        let pod = json!({"metadata": {"name": "p", "deletionTimestamp": "1970-01-01T00:00:00Z"}, "spec": one(), "status": {"phase": "Running"}});
        assert_eq!(cells(&pod, Timestamp::UNIX_EPOCH)[2], "Terminating");
    }
}
