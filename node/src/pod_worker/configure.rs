//! A container's spec and everything it refers to → what the runtime is asked for.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{Capabilities, ConfigMap, Container as Spec, Pod, Secret, SecurityContext};
use kube::api::Api;

use super::Worker;
use super::start::Refusal;
use crate::env::expand::expand;
use crate::env::{self, Sources, services};
use crate::image::ImageConfig;
use crate::runtime::{ContainerConfig, Security};
use crate::{hosts, limits, volumes};

/// The kubelet's reason for everything in here.
const REASON: &str = "CreateContainerConfigError";

impl Worker {
    /// Puts one run of a container together.
    pub(super) async fn configure(
        &mut self,
        name: &str,
        attempt: u32,
        image: &str,
    ) -> Result<ContainerConfig, Refusal> {
        let refuse = |text: String| Refusal::new(REASON, text);
        let spec = self.spec_of(name).cloned().ok_or_else(|| refuse(format!("container {name} is not in the pod")))?;
        if let Some(profile) = localhost_profile(&self.pod, &spec) {
            return Err(refuse(format!(
                "seccomp profile \"{profile}\" cannot be applied: this node has no seccomp support"
            )));
        }
        if self.volumes.is_none() {
            self.set_up_volumes().await.map_err(|error| refuse(error.to_string()))?;
        }
        let env = self.environment(&spec).await?;
        let pod_dir = self.node.pod_dir(&self.uid);
        hosts::write(&pod_dir.join("etc"), &self.pod, &self.ips())
            .map_err(|error| refuse(format!("write the pod's hosts file: {error}")))?;
        let none = volumes::Volumes::new();
        let prepared = volumes::mounts(&spec, attempt, &pod_dir, self.volumes.as_ref().unwrap_or(&none), &env);
        let prepared =
            prepared.map_err(|error| refuse(format!("failed to prepare mounts for container \"{name}\": {error}")))?;
        let security = security(&self.pod, &spec);
        self.check_non_root(&security, name, image).await?;
        let words = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, &env)).collect();
        Ok(ContainerConfig {
            name: name.to_owned(),
            attempt,
            image: image.to_owned(),
            command: words(&spec.command),
            args: words(&spec.args),
            working_dir: spec.working_dir.clone().unwrap_or_default(),
            mounts: prepared.mounts,
            resources: limits::cgroup(&self.pod, &spec, self.node.allocatable),
            security,
            log_path: pod_dir.join("containers").join(name).join(format!("{attempt}.log")),
            termination_log: Some(prepared.termination_log),
            hash: hash(&spec),
            env,
        })
    }

    /// Looks up what the environment refers to, then builds it.
    async fn environment(&self, spec: &Spec) -> Result<Vec<(String, String)>, Refusal> {
        let refuse = |text: String| Refusal::new(REASON, text);
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
        let unanswered = |error: kube::Error| refuse(format!("failed to sync configmap or secret cache: {error}"));
        let (config_maps, secrets) = env::references(spec);
        let mut sources =
            Sources { pod_ips: self.ips(), host_ips: self.node.ips.iter().collect(), ..Sources::default() };
        let api: Api<ConfigMap> = Api::namespaced(self.node.client.clone(), &namespace);
        for name in config_maps {
            if let Some(map) = api.get_opt(&name).await.map_err(unanswered)? {
                sources.config_maps.insert(name, map);
            }
        }
        let api: Api<Secret> = Api::namespaced(self.node.client.clone(), &namespace);
        for name in secrets {
            if let Some(secret) = api.get_opt(&name).await.map_err(unanswered)? {
                sources.secrets.insert(name, secret);
            }
        }
        // Services may not have been listed yet; a pod must not start without knowing them.
        let listed =
            tokio::time::timeout(std::time::Duration::from_secs(10), self.node.services.wait_until_ready()).await;
        listed
            .map_err(|_| refuse("services have not yet been read at least once, cannot construct envs".to_owned()))?
            .ok();
        let all = self.node.services.state();
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        sources.services = services::visible(&all, &namespace, links);
        env::environment(&self.pod, spec, &sources, self.node.allocatable).map_err(|error| refuse(error.to_string()))
    }

    /// `runAsNonRoot` against the image's own user.
    async fn check_non_root(&self, security: &Security, name: &str, image: &str) -> Result<(), Refusal> {
        if !security.run_as_non_root {
            return Ok(());
        }
        let pod = crate::plan::full_name(&self.pod);
        let refuse = |what: &str| {
            Err(Refusal::new(
                REASON,
                format!("container has runAsNonRoot and {what} (pod: \"{pod}\", container: {name})"),
            ))
        };
        let config = match self.node.runtime.image(image).await {
            Ok(Some((_, config))) => config,
            _ => ImageConfig::default(),
        };
        match (security.run_as_user, config.user.split(':').next().unwrap_or_default()) {
            (Some(0), _) => refuse("runAsUser is set to root"),
            (None, "" | "0" | "root") => refuse("image will run as root"),
            (None, user) if user.parse::<u32>().is_err() => {
                refuse(&format!("image has non-numeric user ({user}), cannot verify user is non-root"))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// The seccomp profile of the node that the container asks for. Running it without would be less than it asked.
fn localhost_profile(pod: &Pod, spec: &Spec) -> Option<String> {
    let own = spec.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    let outer = || pod.spec.as_ref()?.security_context.as_ref()?.seccomp_profile.as_ref();
    let profile = own.or_else(outer).filter(|profile| profile.type_ == "Localhost")?;
    Some(profile.localhost_profile.clone().unwrap_or_default())
}

/// Changes when the container's spec does.
fn hash(spec: &Spec) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(spec).unwrap_or_default().hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// The container's security context over the pod's.
fn security(pod: &Pod, spec: &Spec) -> Security {
    let pod_spec = pod.spec.as_ref();
    let outer = pod_spec.and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = spec.security_context.clone().unwrap_or_default();
    let id = |own: Option<i64>, outer: Option<i64>| own.or(outer).and_then(|id| u32::try_from(id).ok());
    let SecurityContext { privileged, allow_privilege_escalation, read_only_root_filesystem, .. } = own;
    let Capabilities { add, drop } = own.capabilities.clone().unwrap_or_default();
    let mut groups: Vec<u32> =
        outer.supplemental_groups.iter().flatten().filter_map(|id| u32::try_from(*id).ok()).collect();
    groups.extend(outer.fs_group.and_then(|id| u32::try_from(id).ok()));
    Security {
        run_as_user: id(own.run_as_user, outer.run_as_user),
        run_as_group: id(own.run_as_group, outer.run_as_group),
        supplemental_groups: groups,
        run_as_non_root: own.run_as_non_root.or(outer.run_as_non_root) == Some(true),
        privileged: privileged == Some(true),
        no_new_privileges: allow_privilege_escalation == Some(false),
        read_only_rootfs: read_only_root_filesystem == Some(true),
        add_capabilities: add.unwrap_or_default(),
        drop_capabilities: drop.unwrap_or_default(),
        host_pid: pod_spec.and_then(|spec| spec.host_pid) == Some(true),
        host_ipc: pod_spec.and_then(|spec| spec.host_ipc) == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_context_wins() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"hostIPC": true, "containers": [],
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "runAsNonRoot": true}}}))
        .expect("a pod");
        let spec: Spec = serde_json::from_value(
            serde_json::json!({"name": "c", "securityContext": {"runAsUser": 5, "runAsNonRoot": false,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}),
        )
        .expect("a container");
        let found = security(&pod, &spec);
        assert_eq!((found.run_as_user, found.run_as_group, found.supplemental_groups), (Some(5), Some(2), vec![4, 3]));
        assert!(found.no_new_privileges && !found.run_as_non_root && found.host_ipc && !found.privileged);
        assert_eq!(found.drop_capabilities, ["ALL"]);
    }
}
