//! What runs → the pod's status, as kubectl shows it. Pure.
//!
//! The kubelet's `generateAPIPodStatus` and `getPhase`: states, counts and reasons of containers, the phase, and the
//! conditions with the time of their last change. It only ever owns the conditions that the kubelet owns.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::address::NodeIps;
use crate::plan::{is_sidecar, latest, previous, restart_policy};
use crate::runtime::{Container, Exit, Sandbox, State};

/// Why a container waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff`, …
    pub(crate) reason: String,
    /// More of it.
    pub(crate) message: String,
}

/// What a probed container's probes have said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    /// Its startup probe has succeeded, or it has none.
    pub(crate) started: bool,
    /// Its readiness probe succeeds, or it has none.
    pub(crate) ready: bool,
}

/// What the status is made from.
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    /// The last status that was made: start time and the times of conditions live on in it.
    pub(crate) old: &'a PodStatus,
    pub(crate) containers: &'a [Container],
    /// The newest.
    pub(crate) sandbox: Option<&'a Sandbox>,
    /// By container name.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// By container id.
    pub(crate) probed: &'a dyn Fn(&str) -> Probed,
    /// By container id: the termination message.
    pub(crate) messages: &'a BTreeMap<String, String>,
    pub(crate) node_ips: NodeIps,
    /// The pod is being deleted: nothing runs again, what has ended decides the phase.
    pub(crate) terminating: bool,
    pub(crate) now: Timestamp,
}

/// Makes the status.
pub(crate) fn generate(input: &Input<'_>) -> PodStatus {
    let Some(spec) = &input.pod.spec else { return input.old.clone() };
    let init_specs = spec.init_containers.as_deref().unwrap_or_default();
    let initialized = is_initialized(input, init_specs, &spec.containers);
    let init: Vec<ContainerStatus> =
        init_specs.iter().map(|one| container_status(input, one, "PodInitializing", !is_sidecar(one))).collect();
    let waits = if initialized { "ContainerCreating" } else { "PodInitializing" };
    let main: Vec<ContainerStatus> =
        spec.containers.iter().map(|one| container_status(input, one, waits, false)).collect();
    let phase = phase(input, init_specs, &init, &main);
    let ips = pod_ips(input);
    let mut status = PodStatus {
        conditions: Some(conditions(input, &phase, initialized, init_specs, &init, &main)),
        host_ip: Some(input.node_ips.primary.to_string()),
        host_ips: Some(input.node_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().map(ToString::to_string),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        observed_generation: input.pod.metadata.generation,
        phase: Some(phase),
        qos_class: input.pod.status.as_ref().and_then(|status| status.qos_class.clone()),
        start_time: input.old.start_time.clone().or(Some(seconds(input.now))),
        ..PodStatus::default()
    };
    status.container_statuses = (!main.is_empty()).then_some(main);
    status.init_container_statuses = (!init.is_empty()).then_some(init);
    status
}

/// A time as the API has it: without fractions.
fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Addresses of the sandbox; of the last one while there is none, so that a pod does not lose its address for a moment.
fn pod_ips(input: &Input<'_>) -> Vec<IpAddr> {
    if input.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true) {
        return input.node_ips.iter().collect();
    }
    match input.sandbox {
        Some(sandbox) if sandbox.ready => input.node_ips.order(&sandbox.ips),
        _ => input.old.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect(),
    }
}

fn is_initialized(input: &Input<'_>, init: &[Spec], main: &[Spec]) -> bool {
    let over = main.iter().any(|one| {
        latest(input.containers, &one.name)
            .is_some_and(|one| Some(&one.sandbox) == input.sandbox.map(|sandbox| &sandbox.id))
    });
    over || init.iter().all(|one| latest(input.containers, &one.name).is_some_and(|found| init_done(input, one, found)))
}

fn init_done(input: &Input<'_>, spec: &Spec, found: &Container) -> bool {
    match (&found.exit, is_sidecar(spec)) {
        (None, true) => found.state == State::Running && (input.probed)(&found.id).started,
        (Some(exit), false) => exit.code == 0,
        _ => false,
    }
}

fn container_status(input: &Input<'_>, spec: &Spec, waits: &str, is_init: bool) -> ContainerStatus {
    let newest = latest(input.containers, &spec.name);
    let old_count = old_status(input.old, &spec.name).map_or(0, |old| old.restart_count);
    let waiting = |waiting: Option<&Waiting>| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(waiting.map_or_else(|| waits.to_owned(), |waiting| waiting.reason.clone())),
            message: waiting.map(|waiting| waiting.message.clone()).filter(|message| !message.is_empty()),
        }),
        ..ContainerState::default()
    };
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        restart_count: newest
            .map_or(old_count, |one| i32::try_from(one.config.attempt).unwrap_or(i32::MAX).max(old_count)),
        started: Some(false),
        state: Some(waiting(input.waiting.get(&spec.name))),
        last_state: Some(last_state(input, spec, newest)),
        ..ContainerStatus::default()
    };
    let Some(newest) = newest else { return status };
    status.container_id = Some(format!("weft://{}", newest.id));
    status.image_id = newest.image_id.clone();
    let is_waiting = input.waiting.contains_key(&spec.name) && !input.terminating;
    match (&newest.exit, newest.state) {
        (None, State::Running) => {
            let probed = (input.probed)(&newest.id);
            status.started = Some(probed.started);
            status.ready = !is_init && probed.started && probed.ready;
            let running = ContainerStateRunning { started_at: newest.started_at.map(seconds) };
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
        }
        (Some(exit), _) if !is_waiting => {
            status.ready = is_init && exit.code == 0;
            status.state = Some(ended(input, newest, exit));
        }
        // Waiting for its next run: what it was shows as the last state.
        _ => {}
    }
    status
}

fn old_status<'a>(old: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    old.container_statuses.iter().chain(&old.init_container_statuses).flatten().find(|status| status.name == name)
}

/// How the run before the one that `state` shows ended.
fn last_state(input: &Input<'_>, spec: &Spec, newest: Option<&Container>) -> ContainerState {
    let shown_as_waiting = input.waiting.contains_key(&spec.name) && !input.terminating;
    let before = match newest {
        Some(newest) if newest.exit.is_some() && shown_as_waiting => Some(newest),
        _ => previous(input.containers, &spec.name),
    };
    match before.and_then(|one| Some((one, one.exit.as_ref()?))) {
        Some((container, exit)) => ended(input, container, exit),
        None => ContainerState::default(),
    }
}

fn ended(input: &Input<'_>, container: &Container, exit: &Exit) -> ContainerState {
    let message = input.messages.get(&container.id).cloned().unwrap_or_else(|| exit.message.clone());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("weft://{}", container.id)),
            exit_code: exit.code,
            finished_at: Some(seconds(exit.at)),
            message: Some(message).filter(|message| !message.is_empty()),
            reason: Some(exit.reason.clone()),
            signal: None,
            started_at: container.started_at.map(seconds),
        }),
        ..ContainerState::default()
    }
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// The kubelet's `getPhase`.
fn phase(input: &Input<'_>, init_specs: &[Spec], init: &[ContainerStatus], main: &[ContainerStatus]) -> String {
    let policy = if input.terminating { "Never" } else { restart_policy(input.pod) };
    let old = input.old.phase.as_deref();
    if let Some(done @ ("Succeeded" | "Failed")) = old {
        return done.to_owned();
    }
    let regular = || init_specs.iter().zip(init).filter(|(spec, _)| !is_sidecar(spec)).map(|(_, status)| status);
    let nothing_started = main.iter().all(|status| status.container_id.is_none());
    if policy == "Never" && regular().any(|status| terminated(status).is_some_and(|end| end.exit_code != 0)) {
        return "Failed".to_owned();
    }
    if nothing_started && !(input.terminating && main.iter().all(|status| !is_running(status))) {
        return "Pending".to_owned();
    }
    let stopped = main
        .iter()
        .filter(|status| terminated(status).is_some() || (status.container_id.is_some() && !is_running(status)))
        .count();
    let running = main.iter().filter(|status| is_running(status)).count();
    let succeeded = main.iter().filter(|status| terminated(status).is_some_and(|end| end.exit_code == 0)).count();
    let phase = match (running, policy) {
        _ if stopped + running < main.len() && !input.terminating => "Pending",
        (1.., _) | (0, "Always") => "Running",
        (0, _) if succeeded == main.len() => "Succeeded",
        (0, "Never") => "Failed",
        _ => "Running",
    };
    phase.to_owned()
}

fn conditions(
    input: &Input<'_>,
    phase: &str,
    initialized: bool,
    init_specs: &[Spec],
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let host_network = input.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let network = input.sandbox.is_some_and(|sandbox| sandbox.ready && (host_network || !sandbox.ips.is_empty()));
    let containers_ready = containers_ready(phase, init_specs, init, main);
    let ready = match (&containers_ready, gate(input.pod)) {
        (None, Some(message)) => Some(("ReadinessGatesNotReady".to_owned(), message)),
        (other, _) => other.clone(),
    };
    let uninitialized = (!initialized).then(|| {
        let incomplete = init
            .iter()
            .filter(|status| terminated(status).is_none_or(|end| end.exit_code != 0))
            .map(|status| status.name.as_str());
        (
            "ContainersNotInitialized".to_owned(),
            format!("containers with incomplete status: [{}]", incomplete.collect::<Vec<_>>().join(" ")),
        )
    });
    let own = [
        ("PodReadyToStartContainers", (!network).then(|| (String::new(), String::new()))),
        ("Initialized", uninitialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", None),
    ];
    own.into_iter().map(|(kind, problem)| condition(input, kind, phase, problem)).collect()
}

/// Why not all containers are ready; `None` if they are.
fn containers_ready(
    phase: &str,
    init_specs: &[Spec],
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Option<(String, String)> {
    match phase {
        "Succeeded" => return Some(("PodCompleted".to_owned(), String::new())),
        "Failed" => return Some(("PodFailed".to_owned(), String::new())),
        _ => {}
    }
    let sidecars = init_specs.iter().zip(init).filter(|(spec, _)| is_sidecar(spec)).map(|(_, status)| status);
    let unready: Vec<&str> =
        sidecars.chain(main).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    (!unready.is_empty())
        .then(|| ("ContainersNotReady".to_owned(), format!("containers with unready status: [{}]", unready.join(" "))))
}

/// A readiness gate whose condition is not true.
fn gate(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    gates.iter().find_map(|gate| match conditions.iter().find(|condition| condition.type_ == gate.condition_type) {
        Some(condition) if condition.status == "True" => None,
        Some(_) => {
            Some(format!("the status of pod readiness gate \"{}\" is not \"True\", but False", gate.condition_type))
        }
        None => {
            Some(format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.condition_type))
        }
    })
}

fn condition(input: &Input<'_>, kind: &str, phase: &str, problem: Option<(String, String)>) -> PodCondition {
    let status = if problem.is_none() { "True" } else { "False" };
    let old = input.old.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let unchanged = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    let completed = kind == "Initialized" && phase == "Succeeded" && problem.is_none();
    let (reason, message) =
        problem.unwrap_or_else(|| (if completed { "PodCompleted" } else { "" }.to_owned(), String::new()));
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_transition_time: unchanged.or(Some(seconds(input.now))),
        observed_generation: input.pod.metadata.generation,
        ..PodCondition::default()
    }
}

#[cfg(test)]
mod tests;
