//! The steps that bring a pod up: its sandbox, then one container after the other.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Outcome, Worker};
use crate::hosts;
use crate::image::reference;
use crate::plan;
use crate::register::not_ready;
use crate::runtime::{PodId, PortMapping, SandboxConfig, State};
use crate::status::Waiting;
use crate::volumes;

/// The first wait after something outside the pod failed; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Why a container was not started: the reason and message that its status shows.
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The kubelet's safe sysctls: each belongs to a namespace of the pod and cannot harm others. Any other would be written
/// to the node itself.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why the pod may not run: a sysctl that is not its own to set.
fn forbidden_sysctl(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let host_network = spec.host_network == Some(true);
    spec.security_context.as_ref()?.sysctls.iter().flatten().find_map(|sysctl| {
        let name = &sysctl.name;
        if !SAFE_SYSCTLS.contains(&name.replace('/', ".").as_str()) {
            return Some(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        }
        (host_network && name.starts_with("net"))
            .then(|| format!("forbidden sysctl: \"{name}\" not allowed with host net enabled"))
    })
}

impl Worker {
    /// How long to wait after one more failure in a row.
    fn retry(&mut self) -> Outcome {
        let wait = FIRST_RETRY * 2_u32.saturating_pow(self.failures.min(5));
        self.failures += 1;
        Outcome::Later(wait.min(LONGEST_RETRY))
    }

    /// Volumes first, then the sandbox, as the kubelet does it.
    pub(super) async fn make_sandbox(&mut self, attempt: u32) -> Outcome {
        if !self.host_network()
            && let Err(message) = self.node.runtime.network_ready()
        {
            let message = format!("network is not ready: container runtime network not ready: {}", not_ready(&message));
            self.node.events.warning(&self.pod, None, "NetworkNotReady", message);
            return self.retry();
        }
        if let Some(message) = forbidden_sysctl(&self.pod) {
            self.node.events.warning(&self.pod, None, "SysctlForbidden", message);
            return self.retry();
        }
        if let Err(error) = self.set_up_volumes().await {
            self.node.events.warning(&self.pod, None, "FailedMount", error.to_string());
            return self.retry();
        }
        if attempt > 0 {
            self.node.events.normal(
                &self.pod,
                None,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.".to_owned(),
            );
            for old in self.sandboxes() {
                // Its containers stay on record: their restarts are counted on.
                if let Err(error) = self.node.runtime.stop_sandbox(&old.id).await {
                    self.node.events.warning(
                        &self.pod,
                        None,
                        "FailedKillPod",
                        format!("error killing pod: {}", error.text()),
                    );
                    return self.retry();
                }
            }
        }
        match self.node.runtime.run_sandbox(&self.sandbox_config(attempt)).await {
            Ok(_) => {
                self.failures = 0;
                self.tell_of_dns();
                Outcome::Done
            }
            Err(error) => {
                self.node.events.warning(
                    &self.pod,
                    None,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {}", error.text()),
                );
                self.retry()
            }
        }
    }

    fn tell_of_dns(&self) {
        if let Some(spec) = self.pod.spec.as_ref().filter(|spec| hosts::wants_cluster_dns(spec)) {
            self.node.events.warning(&self.pod, None, "MissingClusterDNS", hosts::missing_cluster_dns(&self.pod, spec));
        }
    }

    fn sandbox_config(&self, attempt: u32) -> SandboxConfig {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let sysctls = spec.and_then(|spec| spec.security_context.as_ref()?.sysctls.clone()).unwrap_or_default();
        let ports = spec.into_iter().flat_map(|spec| &spec.containers).flat_map(|one| one.ports.iter().flatten());
        let mapping = |port: &k8s_openapi::api::core::v1::ContainerPort| {
            let host_port = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
            let container_port = u16::try_from(port.container_port).ok()?;
            Some(PortMapping { host_port, container_port, protocol, host_ip: port.host_ip.clone().unwrap_or_default() })
        };
        SandboxConfig {
            pod: PodId {
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
                uid: self.uid.clone(),
            },
            attempt,
            hostname: hosts::hostname(&self.pod),
            host_network: self.host_network(),
            sysctls: sysctls.into_iter().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
            port_mappings: ports.filter_map(mapping).collect(),
        }
    }

    pub(super) async fn set_up_volumes(&mut self) -> Result<(), volumes::Error> {
        let ips = self.ips();
        self.volumes = Some(volumes::set_up(&self.node, &self.pod, &ips, &mut self.tokens).await?);
        Ok(())
    }

    /// What has changed in the API changes in the running pod's volumes, within a minute; failures wait for the next turn,
    /// and an API server that does not answer holds nothing up.
    pub(super) async fn refresh_volumes(&mut self) {
        let due = self.refreshed.is_none_or(|last| last.elapsed() >= super::RESYNC / 2);
        if !due || self.volumes.is_none() || self.sandbox().is_none_or(|sandbox| !sandbox.ready) {
            return;
        }
        self.refreshed = Some(Instant::now());
        match tokio::time::timeout(Duration::from_secs(5), self.set_up_volumes()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, pod = plan::full_name(&self.pod), "volumes could not be brought up to date");
            }
            Err(_) => tracing::debug!(pod = plan::full_name(&self.pod), "the API server does not answer"),
        }
    }

    /// Starts one container; a refusal becomes what its status says it waits for.
    pub(super) async fn start(&mut self, name: &str, attempt: u32, ended: Option<Timestamp>) -> Outcome {
        match self.try_start(name, attempt, ended).await {
            Ok(()) => {
                self.waiting.remove(name);
                self.failures = 0;
                Outcome::Done
            }
            Err((refusal, outcome)) => {
                self.waiting
                    .insert(name.to_owned(), Waiting { reason: refusal.reason.to_owned(), message: refusal.message });
                outcome
            }
        }
    }

    async fn try_start(
        &mut self,
        name: &str,
        attempt: u32,
        ended: Option<Timestamp>,
    ) -> Result<(), (Refusal, Outcome)> {
        let image = self.ensure_image(name).await?;
        let config = match self.configure(name, attempt, &image).await {
            Ok(config) => config,
            Err(refusal) => {
                self.node.events.warning(&self.pod, Some(name), "Failed", format!("Error: {}", refusal.message));
                let outcome = self.retry();
                return Err((refusal, outcome));
            }
        };
        if let Some(at) = ended {
            self.backoff.count(name, at);
        }
        self.remove_old(name).await;
        let sandbox = self.sandbox().map(|sandbox| sandbox.id).unwrap_or_default();
        let created = match self.node.runtime.create_container(&sandbox, &config).await {
            Ok(id) => id,
            Err(error) => {
                self.node.events.warning(&self.pod, Some(name), "Failed", format!("Error: {}", error.text()));
                let outcome = self.retry();
                return Err((Refusal::new("CreateContainerError", error.text()), outcome));
            }
        };
        self.node.events.normal(&self.pod, Some(name), "Created", format!("Created container: {name}"));
        if let Err(error) = self.node.runtime.start_container(&created).await {
            self.node.events.warning(&self.pod, Some(name), "Failed", format!("Error: {}", error.text()));
            // It is on record as ended: the restart policy and the back-off decide on the next try.
            return Err((Refusal::new("RunContainerError", error.text()), Outcome::Later(Duration::from_secs(1))));
        }
        self.node.events.normal(&self.pod, Some(name), "Started", format!("Started container {name}"));
        self.after_start(name, &created).await;
        Ok(())
    }

    /// Keeps the run before the new one, for its logs and how it ended, and no older one.
    async fn remove_old(&self, name: &str) {
        let containers = self.containers();
        let newest = plan::latest(&containers, name).filter(|one| one.state == State::Exited).map(|one| one.id.clone());
        for old in containers.iter().filter(|one| one.config.name == name && Some(&one.id) != newest.as_ref()) {
            if let Err(error) = self.node.runtime.remove_container(&old.id).await {
                tracing::warn!(error = error.text(), container = old.id, "an old container could not be removed");
            }
        }
        let left = self.containers();
        for sandbox in self
            .sandboxes()
            .into_iter()
            .filter(|one| !one.ready && left.iter().all(|container| container.sandbox != one.id))
        {
            if let Err(error) = self.node.runtime.remove_sandbox(&sandbox.id).await {
                tracing::warn!(error = error.text(), sandbox = sandbox.id, "an old sandbox could not be removed");
            }
        }
    }

    /// The image is there, or there is a reason: pull policy, back-off, and the kubelet's events.
    async fn ensure_image(&mut self, name: &str) -> Result<String, (Refusal, Outcome)> {
        let spec = self.spec_of(name);
        let image = spec.and_then(|spec| spec.image.clone()).unwrap_or_default();
        let policy = spec.and_then(|spec| spec.image_pull_policy.clone());
        let policy =
            policy.unwrap_or_else(|| if reference::is_latest(&image) { "Always" } else { "IfNotPresent" }.to_owned());
        let events = self.node.events.clone();
        if let Err(error) = reference::normalize(&image) {
            let message = format!("Failed to apply default image tag \"{image}\": {error}");
            events.warning(&self.pod, Some(name), "InspectFailed", message.clone());
            return Err((Refusal::new("InvalidImageName", message), Outcome::Later(super::RESYNC)));
        }
        let present = self.node.runtime.image(&image).await;
        if policy != "Always" && matches!(present, Ok(Some(_))) {
            events.normal(
                &self.pod,
                Some(name),
                "Pulled",
                format!("Container image \"{image}\" already present on machine"),
            );
            return Ok(image);
        }
        if policy == "Never" {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            events.warning(&self.pod, Some(name), "ErrImageNeverPull", message.clone());
            return Err((Refusal::new("ErrImageNeverPull", message), Outcome::Later(Duration::from_secs(10))));
        }
        self.pull(name, image).await
    }

    async fn pull(&mut self, name: &str, image: String) -> Result<String, (Refusal, Outcome)> {
        let events = self.node.events.clone();
        let now = Timestamp::now();
        if let Some((left, _)) = self.pull_failed.get(name).and_then(|failed| self.pulls.remaining(name, *failed, now))
        {
            let last = self.waiting.get(name).map(|waiting| waiting.message.clone()).unwrap_or_default();
            let message = if last.starts_with("Back-off") {
                last
            } else {
                format!("Back-off pulling image \"{image}\": ErrImagePull: {last}")
            };
            if self.waiting.get(name).is_none_or(|waiting| waiting.reason != "ImagePullBackOff") {
                events.normal(&self.pod, Some(name), "BackOff", format!("Back-off pulling image \"{image}\""));
                events.warning(&self.pod, Some(name), "Failed", "Error: ImagePullBackOff".to_owned());
            }
            return Err((
                Refusal::new("ImagePullBackOff", message),
                Outcome::Later(Duration::try_from(left).unwrap_or_default()),
            ));
        }
        events.normal(&self.pod, Some(name), "Pulling", format!("Pulling image \"{image}\""));
        match self.node.runtime.pull_image(&image).await {
            Ok(found) => {
                self.pulls.forget(name);
                let message = format!(
                    "Successfully pulled image \"{image}\" in 0s (0s including waiting). Image size: {} bytes.",
                    found.size
                );
                events.normal(&self.pod, Some(name), "Pulled", message);
                Ok(image)
            }
            Err(error) => {
                let text = error.text();
                events.warning(&self.pod, Some(name), "Failed", format!("Failed to pull image \"{image}\": {text}"));
                events.warning(&self.pod, Some(name), "Failed", "Error: ErrImagePull".to_owned());
                self.pulls.count(name, now);
                self.pull_failed.insert(name.to_owned(), now);
                // Soon again, to show the back-off.
                Err((Refusal::new("ErrImagePull", text), Outcome::Later(Duration::from_secs(2))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host_network: bool, name: &str, expected: Option<&str>) {
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"spec": {"containers": [], "hostNetwork": host_network,
            "securityContext": {"sysctls": [{"name": name, "value": "0"}]}}}))
            .expect("a pod");
        assert_eq!(forbidden_sysctl(&pod).as_deref(), expected);
    }

    #[test]
    fn sysctls_of_the_node_are_refused() {
        check(false, "net.ipv4.tcp_syncookies", None);
        check(false, "net/ipv4/tcp_syncookies", None);
        check(false, "kernel.core_pattern", Some("forbidden sysctl: \"kernel.core_pattern\" not allowlisted"));
        check(
            true,
            "net.ipv4.tcp_syncookies",
            Some("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
        );
    }
}
