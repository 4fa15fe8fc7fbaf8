//! Hooks around a container's life, and its end by a failed probe.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container as Spec, LifecycleHandler, Pod};

use super::{Outcome, Worker};
use crate::context::Node;
use crate::probes::{http, http_target};
use crate::runtime::Error;

/// A hook has no time limit of its own before the grace ends; after a start it has this one.
const POST_START: Duration = Duration::from_secs(60);
/// The kubelet gives every container at least this long.
pub(super) const LEAST_GRACE: Duration = Duration::from_secs(2);

/// What a hook or a stop needs of a pod; it does not hold the worker.
#[derive(Clone)]
pub(super) struct Stopper {
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) ip: Option<IpAddr>,
}

impl Stopper {
    /// Asks a container to end: `preStop` (unless it was run before), its stop signal, SIGKILL, all within the grace.
    pub(super) async fn stop(
        self,
        spec: Option<Spec>,
        id: String,
        grace: Duration,
        pre_stop: bool,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let hook = spec.as_ref().and_then(|spec| spec.lifecycle.as_ref()?.pre_stop.clone());
        if let (Some(hook), Some(spec), true) = (hook, &spec, pre_stop && grace > LEAST_GRACE)
            && let Err(message) = self.run_hook(spec, &id, &hook, grace).await
        {
            self.node.events.warning(
                &self.pod,
                Some(&spec.name),
                "FailedPreStopHook",
                format!("PreStopHook failed: {message}"),
            );
        }
        self.node.runtime.stop_container(&id, grace.saturating_sub(begun.elapsed()).max(LEAST_GRACE)).await
    }

    async fn run_hook(&self, spec: &Spec, id: &str, hook: &LifecycleHandler, limit: Duration) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let result = self.node.runtime.exec(id, exec.command.as_deref().unwrap_or_default(), limit).await;
            return match result {
                Ok(result) if result.code == 0 => Ok(()),
                Ok(result) => Err(format!("command exited with {}: {}", result.code, result.output.trim_end())),
                Err(error) => Err(error.text()),
            };
        }
        if let (Some(get), Some(ip)) = (&hook.http_get, self.ip) {
            let target = http_target(get, spec, ip)?;
            return http::get(&target, limit).await.map(|_| ());
        }
        if let Some(sleep) = &hook.sleep {
            let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
            tokio::time::sleep(wanted.min(limit)).await;
        }
        Ok(())
    }
}

impl Worker {
    pub(super) fn stopper(&self) -> Stopper {
        Stopper { node: self.node.clone(), pod: self.pod.clone(), ip: self.ips().first().copied() }
    }

    /// `postStart`: a failure ends the container, as the kubelet has it.
    pub(super) async fn after_start(&self, name: &str, id: &str) {
        let Some(spec) = self.spec_of(name) else { return };
        let Some(hook) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else { return };
        if let Err(message) = self.stopper().run_hook(spec, id, hook, POST_START).await {
            self.node.events.warning(
                &self.pod,
                Some(name),
                "FailedPostStartHook",
                format!("PostStartHook failed: {message}"),
            );
            if let Err(error) = self.node.runtime.stop_container(id, LEAST_GRACE).await {
                tracing::warn!(error = error.text(), container = id, "a container could not be stopped");
            }
        }
    }

    /// A probe has failed for good: the container is stopped, and the restart policy decides what follows.
    pub(super) async fn kill(&mut self, id: &str, name: &str, probe: &'static str) -> Outcome {
        let restarts = crate::plan::restart_policy(&self.pod) != "Never";
        let follows = if restarts { "will be restarted" } else { "will be stopped" };
        self.node.events.normal(
            &self.pod,
            Some(name),
            "Killing",
            format!("Container {name} failed {probe} probe, {follows}"),
        );
        let of_probe = self.spec_of(name).and_then(|spec| {
            let probe = if probe == "startup" { spec.startup_probe.as_ref() } else { spec.liveness_probe.as_ref() };
            probe?.termination_grace_period_seconds
        });
        let of_pod = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = Duration::from_secs(of_probe.or(of_pod).unwrap_or(30).unsigned_abs());
        match self.stopper().stop(self.spec_of(name).cloned(), id.to_owned(), grace, true).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(error = error.text(), container = id, "a container could not be stopped");
                Outcome::Later(Duration::from_secs(2))
            }
        }
    }
}
