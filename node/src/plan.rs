//! What a pod needs next: its spec and what runs → steps. Pure.
//!
//! The kubelet's `computePodActions`: a sandbox first, init containers in order, then all others; what has ended is
//! started again as the restart policy says, after its back-off. Doing the steps is `pod_worker`'s work.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use crate::backoff::{Backoff, go_duration};
use crate::runtime::{Container, Sandbox, State};

/// One thing to do for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make a sandbox. Older ones are to be taken down first.
    Sandbox {
        /// Counts the pod's sandboxes.
        attempt: u32,
    },
    /// Start a container (again).
    Start {
        /// Its name.
        name: String,
        /// Counts its restarts.
        attempt: u32,
        /// Whether its last run failed or ended, so that this counts for the back-off.
        ended: Option<Timestamp>,
    },
    /// Kill a container whose probe has failed.
    Kill {
        /// The container's id.
        id: String,
        /// Its name.
        name: String,
        /// `liveness` or `startup`.
        probe: &'static str,
    },
    /// A container waits for its back-off.
    Wait {
        /// Its name.
        name: String,
        /// How long still.
        left: SignedDuration,
        /// For the status.
        message: String,
    },
    /// Everything has ended for good: the sandbox can go.
    Finish,
}

/// What the plan is made from.
pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    /// All of the pod's, of any sandbox.
    pub(crate) containers: &'a [Container],
    /// All of the pod's.
    pub(crate) sandboxes: &'a [Sandbox],
    pub(crate) backoff: &'a Backoff,
    /// The probe that has failed for good, by container id.
    pub(crate) failed_probe: &'a dyn Fn(&str) -> Option<&'static str>,
    /// Whether a running container has started (no startup probe, or it has succeeded), by container id.
    pub(crate) started: &'a dyn Fn(&str) -> bool,
    pub(crate) now: Timestamp,
}

/// The newest run of a container.
pub(crate) fn latest<'a>(containers: &'a [Container], name: &str) -> Option<&'a Container> {
    containers.iter().filter(|one| one.config.name == name).max_by_key(|one| (one.config.attempt, one.created_at))
}

/// The run before the newest.
pub(crate) fn previous<'a>(containers: &'a [Container], name: &str) -> Option<&'a Container> {
    let newest = latest(containers, name)?;
    let older = containers.iter().filter(|one| one.config.name == name && one.id != newest.id);
    older.max_by_key(|one| (one.config.attempt, one.created_at))
}

/// `restartPolicy: Always` on an init container makes it run beside the others.
pub(crate) fn is_sidecar(spec: &Spec) -> bool {
    spec.restart_policy.as_deref() == Some("Always")
}

/// The pod's restart policy.
pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether a container that ended with `code` runs again under `policy`.
pub(crate) fn restarts(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// The steps that can be taken now, in order.
pub(crate) fn plan(input: &Input<'_>) -> Vec<Step> {
    let Some(spec) = &input.pod.spec else { return Vec::new() };
    let sandbox = input.sandboxes.iter().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at));
    let policy = restart_policy(input.pod);
    if is_finished(input, policy) {
        return vec![Step::Finish];
    }
    let Some(sandbox) = sandbox.filter(|sandbox| sandbox.ready) else {
        return vec![Step::Sandbox { attempt: sandbox.map_or(0, |old| old.attempt + 1) }];
    };
    let mut steps = Vec::new();
    if !init(input, spec.init_containers.as_deref().unwrap_or_default(), &sandbox.id, &mut steps) {
        return steps;
    }
    for container in &spec.containers {
        next(input, container, policy, &mut steps);
    }
    steps
}

/// Whether no container will ever run again: the policy forbids it, or an init container has failed for good.
fn is_finished(input: &Input<'_>, policy: &str) -> bool {
    let Some(spec) = &input.pod.spec else { return false };
    let exit_of = |name: &str| latest(input.containers, name).and_then(|one| one.exit.as_ref()).map(|exit| exit.code);
    let failed = |one: &Spec| !is_sidecar(one) && exit_of(&one.name).is_some_and(|code| code != 0);
    if policy == "Never" && spec.init_containers.iter().flatten().any(failed) {
        return true;
    }
    spec.containers.iter().all(|one| exit_of(&one.name).is_some_and(|code| !restarts(policy, code)))
}

/// Init containers in order. True once the others may run: each has succeeded in this sandbox, or is a started sidecar.
fn init(input: &Input<'_>, containers: &[Spec], sandbox: &str, steps: &mut Vec<Step>) -> bool {
    let policy = match restart_policy(input.pod) {
        "Never" => "Never",
        _ => "OnFailure",
    };
    // Once any of the others has been made here, initialisation is behind us, whatever is still on record of it.
    let spec = input.pod.spec.as_ref();
    let mains = || spec.into_iter().flat_map(|spec| &spec.containers);
    let over =
        mains().any(|main| input.containers.iter().any(|one| one.config.name == main.name && one.sandbox == sandbox));
    for container in containers {
        let newest = latest(input.containers, &container.name);
        let here = newest.filter(|one| one.sandbox == sandbox);
        if is_sidecar(container) {
            next(input, container, "Always", steps);
            let running = here.filter(|one| one.state == State::Running);
            if !over && !running.is_some_and(|one| (input.started)(&one.id)) {
                return false;
            }
            continue;
        }
        let done = here.and_then(|one| one.exit.as_ref()).is_some_and(|exit| exit.code == 0);
        if over || done {
            continue;
        }
        match (here, newest) {
            (Some(_), _) => next(input, container, policy, steps),
            // A new sandbox: initialisation starts over.
            (None, old) => steps.push(Step::Start {
                name: container.name.clone(),
                attempt: old.map_or(0, |old| old.config.attempt + 1),
                ended: None,
            }),
        }
        return false;
    }
    true
}

/// The step for one container, if it needs any.
fn next(input: &Input<'_>, container: &Spec, policy: &str, steps: &mut Vec<Step>) {
    let name = container.name.clone();
    let Some(newest) = latest(input.containers, &name) else {
        steps.push(Step::Start { name, attempt: 0, ended: None });
        return;
    };
    let Some(exit) = &newest.exit else {
        if newest.state == State::Created {
            // Made, never started: the node died in between.
            steps.push(Step::Start { name, attempt: newest.config.attempt, ended: None });
        } else if let Some(probe) = (input.failed_probe)(&newest.id) {
            steps.push(Step::Kill { id: newest.id.clone(), name, probe });
        }
        return;
    };
    if !restarts(policy, exit.code) {
        return;
    }
    match input.backoff.remaining(&name, exit.at, input.now) {
        Some((left, delay)) => {
            let message = format!(
                "back-off {} restarting failed container={name} pod={}",
                go_duration(delay),
                full_name(input.pod)
            );
            steps.push(Step::Wait { name, left, message });
        }
        None => steps.push(Step::Start { name, attempt: newest.config.attempt + 1, ended: Some(exit.at) }),
    }
}

/// `name_namespace(uid)`, as the kubelet names pods in messages.
pub(crate) fn full_name(pod: &Pod) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}_{}({})", part(&pod.metadata.name), part(&pod.metadata.namespace), part(&pod.metadata.uid))
}

#[cfg(test)]
pub(crate) mod tests;
