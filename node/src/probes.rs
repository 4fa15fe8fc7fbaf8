//! Startup, readiness and liveness probes: one task for each probe of each running container.
//!
//! A task asks from the node's own network namespace, counts in a row, and keeps the verdict; the pod's worker is woken
//! when one changes and acts on it. Killing and status are not done here.

pub(crate) mod http;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::context::Node;
use crate::runtime::{Container, State};
use crate::status::Probed;

/// The three probes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn of(self, spec: &Spec) -> Option<&Probe> {
        match self {
            Self::Startup => spec.startup_probe.as_ref(),
            Self::Readiness => spec.readiness_probe.as_ref(),
            Self::Liveness => spec.liveness_probe.as_ref(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

type Key = (String, Kind);
/// `None` until the first verdict.
type Verdicts = Arc<Mutex<HashMap<Key, Option<bool>>>>;

/// All probes of one pod. Dropping it ends them.
pub(crate) struct Probes {
    tasks: HashMap<Key, AbortHandle>,
    verdicts: Verdicts,
    wake: Arc<Notify>,
}

impl Probes {
    /// `wake` is told when a verdict changes.
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { tasks: HashMap::new(), verdicts: Verdicts::default(), wake }
    }

    fn verdict(&self, id: &str, kind: Kind) -> Option<Option<bool>> {
        self.verdicts.lock().expect("no panic happens under this lock").get(&(id.to_owned(), kind)).copied()
    }

    /// What the probes say of a running container. A container whose probes have not been started yet is not ready.
    pub(crate) fn probed(&self, spec: Option<&Spec>, id: &str) -> Probed {
        let passes =
            |kind: Kind| spec.and_then(|spec| kind.of(spec)).is_none() || self.verdict(id, kind) == Some(Some(true));
        let started = passes(Kind::Startup);
        Probed { started, ready: started && passes(Kind::Readiness) }
    }

    /// The probe that asks for the container's end, if one does.
    pub(crate) fn failed(&self, id: &str) -> Option<&'static str> {
        let failed = |kind| self.verdict(id, kind) == Some(Some(false));
        failed(Kind::Liveness).then_some("liveness").or_else(|| failed(Kind::Startup).then_some("startup"))
    }

    /// Starts what is missing and ends what belongs to containers that do not run any more.
    pub(crate) fn update(&mut self, node: &Arc<Node>, pod: &Arc<Pod>, containers: &[Container], ip: Option<IpAddr>) {
        let Some(spec) = &pod.spec else { return };
        let mut wanted: HashSet<Key> = HashSet::new();
        for one in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let running =
                containers.iter().find(|found| found.config.name == one.name && found.state == State::Running);
            let (Some(container), Some(ip)) = (running, ip) else { continue };
            self.seed(pod, one, &container.id);
            let started = self.probed(Some(one), &container.id).started;
            let kinds = if started { &[Kind::Readiness, Kind::Liveness][..] } else { &[Kind::Startup][..] };
            for kind in kinds.iter().filter(|kind| kind.of(one).is_some()) {
                let key = (container.id.clone(), *kind);
                wanted.insert(key.clone());
                if !self.tasks.contains_key(&key) {
                    self.start(key, node, pod, one, container, ip);
                }
            }
        }
        let running: HashSet<&str> =
            containers.iter().filter(|one| one.state == State::Running).map(|one| one.id.as_str()).collect();
        self.tasks.retain(|key, task| {
            wanted.contains(key) || {
                task.abort();
                false
            }
        });
        // A passed startup probe keeps its verdict for as long as the container runs.
        self.verdicts
            .lock()
            .expect("no panic happens under this lock")
            .retain(|(id, _), _| running.contains(id.as_str()));
    }

    /// A node that was restarted goes on with what it had said of the same container, until the probes say otherwise: its
    /// restart makes nothing unready.
    fn seed(&self, pod: &Pod, spec: &Spec, id: &str) {
        let said = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
        let before = said
            .into_iter()
            .find(|one| one.container_id.as_deref().and_then(|full| full.strip_prefix("weft://")) == Some(id));
        let mut verdicts = self.verdicts.lock().expect("no panic happens under this lock");
        for kind in [Kind::Startup, Kind::Readiness, Kind::Liveness].into_iter().filter(|kind| kind.of(spec).is_some())
        {
            let good = match kind {
                Kind::Startup => before.is_some_and(|one| one.started == Some(true)),
                Kind::Readiness => before.is_some_and(|one| one.ready),
                Kind::Liveness => false,
            };
            verdicts.entry((id.to_owned(), kind)).or_insert(good.then_some(true));
        }
    }

    fn start(&mut self, key: Key, node: &Arc<Node>, pod: &Arc<Pod>, spec: &Spec, container: &Container, ip: IpAddr) {
        let Some(probe) = key.1.of(spec).cloned() else { return };
        let task = Task {
            node: node.clone(),
            pod: pod.clone(),
            spec: spec.clone(),
            probe,
            key: key.clone(),
            ip,
            started_at: container.started_at.unwrap_or(container.created_at),
            verdicts: self.verdicts.clone(),
            wake: self.wake.clone(),
        };
        self.tasks.insert(key, tokio::spawn(task.run()).abort_handle());
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

/// One probe of one container.
struct Task {
    node: Arc<Node>,
    pod: Arc<Pod>,
    spec: Spec,
    probe: Probe,
    key: Key,
    ip: IpAddr,
    started_at: Timestamp,
    verdicts: Verdicts,
    wake: Arc<Notify>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.filter(|value| *value > 0).map_or(default, |value| u64::from(value.unsigned_abs())))
}

impl Task {
    async fn run(self) {
        let age = Timestamp::now().duration_since(self.started_at);
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        tokio::time::sleep(delay.saturating_sub(Duration::try_from(age).unwrap_or_default())).await;
        let mut count = Count::new(self.probe.success_threshold, self.probe.failure_threshold);
        let mut ticks = tokio::time::interval(seconds(self.probe.period_seconds, 10));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let result = self.ask().await;
            if let Err(why) = &result {
                let message = format!("{} probe failed: {why}", self.key.1.name());
                self.node.events.warning(&self.pod, Some(&self.spec.name), "Unhealthy", message);
            }
            if let Some(verdict) = count.add(result.is_ok()) {
                self.decide(verdict);
                if !verdict && self.key.1 != Kind::Readiness {
                    // The container is being ended; the one after it has probes of its own.
                    return;
                }
            }
        }
    }

    fn decide(&self, verdict: bool) {
        let mut verdicts = self.verdicts.lock().expect("no panic happens under this lock");
        if let Some(old) = verdicts.get_mut(&self.key)
            && *old != Some(verdict)
        {
            *old = Some(verdict);
            self.wake.notify_one();
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let timeout = seconds(self.probe.timeout_seconds, 1);
        if let Some(exec) = &self.probe.exec {
            let result =
                self.node.runtime.exec(&self.key.0, exec.command.as_deref().unwrap_or_default(), timeout).await;
            return match result {
                Ok(result) if result.code == 0 => Ok(()),
                Ok(result) => Err(result.output.trim_end().to_owned()),
                Err(error) => Err(error.text()),
            };
        }
        if let Some(get) = &self.probe.http_get {
            let target = http_target(get, &self.spec, self.ip)?;
            let (status, _) = http::get(&target, timeout).await?;
            let good = status.is_success() || status.is_redirection();
            return if good { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {}", status.as_u16())) };
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let port = port(&tcp.port, &self.spec)?;
            let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| self.ip.to_string());
            let timed_out = |_| format!("dial tcp {host}:{port}: i/o timeout");
            return tokio::time::timeout(timeout, http::dial(&host, port)).await.map_err(timed_out)?.map(|_| ());
        }
        Err("this kind of probe is not supported by this node".to_owned())
    }
}

/// A port by number or by its name in the container.
fn port(port: &IntOrString, spec: &Spec) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = spec.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).ok_or_else(|| format!("couldn't extract port: {port:?}"))
}

/// Where an HTTP action of a container goes.
pub(crate) fn http_target(get: &HTTPGetAction, spec: &Spec, ip: IpAddr) -> Result<http::Target, String> {
    let path = get.path.clone().unwrap_or_default();
    Ok(http::Target {
        https: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_string()),
        port: port(&get.port, spec)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers: get.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect(),
    })
}

/// Results in a row against the two thresholds.
struct Count {
    last: bool,
    row: i32,
    success: i32,
    failure: i32,
}

impl Count {
    fn new(success: Option<i32>, failure: Option<i32>) -> Self {
        let at_least_one = |value: Option<i32>, default: i32| value.filter(|value| *value > 0).unwrap_or(default);
        Self { last: false, row: 0, success: at_least_one(success, 1), failure: at_least_one(failure, 3) }
    }

    /// Counts a result; a verdict once enough of the same came in a row.
    fn add(&mut self, good: bool) -> Option<bool> {
        self.row = if good == self.last { self.row.saturating_add(1) } else { 1 };
        self.last = good;
        let enough = if good { self.success } else { self.failure };
        (self.row >= enough).then_some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(success: i32, failure: i32, results: &str, expected: &str) {
        let mut count = Count::new(Some(success), Some(failure));
        let verdicts: String = results
            .chars()
            .map(|result| match count.add(result == '+') {
                Some(true) => '+',
                Some(false) => '-',
                None => '.',
            })
            .collect();
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn thresholds_count_in_a_row() {
        check(1, 3, "+--+---", "+..+..-");
        check(2, 1, "-++", "-.+");
        check(0, 0, "--+", "..+");
    }

    #[test]
    fn a_restart_keeps_what_was_said() {
        let spec: Spec = serde_json::from_value(
            serde_json::json!({"name": "c", "readinessProbe": {}, "livenessProbe": {}, "startupProbe": {}}),
        )
        .expect("a container");
        let status = serde_json::json!({"name": "c", "image": "", "imageID": "", "restartCount": 0, "ready": true, "started": true, "containerID": "weft://one"});
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"status": {"containerStatuses": [status]}})).expect("a pod");
        let probes = Probes::new(Arc::new(Notify::new()));
        for id in ["one", "two"] {
            probes.seed(&pod, &spec, id);
        }
        assert_eq!(probes.probed(Some(&spec), "one"), Probed { started: true, ready: true });
        assert_eq!(probes.probed(Some(&spec), "two"), Probed { started: false, ready: false });
        assert_eq!((probes.failed("one"), probes.failed("two")), (None, None));
    }

    #[test]
    fn ports_by_number_and_name() {
        let spec: Spec =
            serde_json::from_value(serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("a container");
        assert_eq!(port(&IntOrString::Int(80), &spec), Ok(80));
        assert_eq!(port(&IntOrString::String("web".into()), &spec), Ok(8080));
        assert_eq!(port(&IntOrString::String("81".into()), &spec), Ok(81));
        assert!(port(&IntOrString::String("no".into()), &spec).is_err());
    }
}
