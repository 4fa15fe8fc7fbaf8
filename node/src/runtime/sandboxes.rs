//! Sandboxes of the embedded runtime: namespaces pinned as files, shared memory, and the network by CNI.
//!
//! No process holds a sandbox. Its record is written before the network is asked for, so that a node which dies in
//! between finds it and takes it down; DEL may come more than once, as the CNI specification allows.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;

use super::embedded::{Inner, new_id};
use super::records::{SandboxRecord, remove_dir};
use super::{Error, Sandbox, SandboxConfig, cgroups, helper, overlay};
use crate::cni::Attachment;

/// Bytes of a pod's /dev/shm, as containerd has it.
const SHM_SIZE: u64 = 64 * 1024 * 1024;

impl SandboxRecord {
    pub(super) fn view(&self) -> Sandbox {
        Sandbox {
            id: self.id.clone(),
            pod: self.config.pod.clone(),
            attempt: self.config.attempt,
            ready: self.ready,
            ips: self.ips.clone(),
            created_at: self.created_at,
        }
    }

    /// Whether its namespaces are still there: a power cut takes them all.
    pub(super) fn is_alive(&self, dir: &Path) -> bool {
        overlay::is_pinned(&dir.join("ipc")) && self.netns.as_ref().is_none_or(|path| overlay::is_pinned(path))
    }

    fn attachment(&self) -> Attachment<'_> {
        let netns = self.netns.as_deref().filter(|path| overlay::is_pinned(path));
        Attachment { container_id: &self.id, netns, pod: &self.config.pod, port_mappings: &self.config.port_mappings }
    }
}

/// Makes a sandbox; what was made is taken down again if any of it fails.
pub(super) async fn run(inner: &Inner, config: &SandboxConfig) -> Result<Sandbox, Error> {
    let id = new_id();
    let netns = (!config.host_network).then(|| inner.settings.netns_dir.join(format!("cni-{}", uuid::Uuid::new_v4())));
    let mut record = SandboxRecord {
        id: id.clone(),
        config: config.clone(),
        created_at: Timestamp::now(),
        netns,
        conflist: None,
        result: None,
        ips: Vec::new(),
        ready: false,
        released: config.host_network,
    };
    inner.keep_sandbox(&record)?;
    if let Err(error) = set_up(inner, &mut record).await {
        // Its record stays until the teardown has worked; the cleaning at the start or the pod's end tries again.
        if stop(inner, &id).await.is_ok() {
            remove(inner, &id).await?;
        }
        return Err(error);
    }
    record.ready = true;
    inner.keep_sandbox(&record)?;
    Ok(record.view())
}

async fn set_up(inner: &Inner, record: &mut SandboxRecord) -> Result<(), Error> {
    let dir = inner.sandbox_dir(&record.id);
    make_namespaces(record, &dir).await?;
    let shm = dir.join("shm");
    overlay::mount_tmpfs(&shm, SHM_SIZE, 0o1777).map_err(Error::io("mount tmpfs at", &shm))?;
    if record.config.host_network {
        return Ok(());
    }
    let _making = inner.network.read().await;
    let attached = inner.settings.cni.add(&record.attachment()).await;
    let attached = attached.map_err(|source| Error::Network { operation: "setup", id: record.id.clone(), source })?;
    if attached.ips.is_empty() {
        let message = format!("the network plugin gave sandbox {:?} no address", record.id);
        return Err(Error::Helper { message });
    }
    record.ips = attached.ips;
    record.result = Some(attached.result);
    record.conflist = Some(attached.conflist);
    Ok(())
}

async fn make_namespaces(record: &SandboxRecord, dir: &Path) -> Result<(), Error> {
    let mut command = helper::command("sandbox");
    let pin = |kind: &str, path: &Path| format!("{kind}={}", path.display());
    command.arg("--pin").arg(pin("ipc", &dir.join("ipc")));
    if let Some(netns) = &record.netns {
        command.arg("--hostname").arg(&record.config.hostname);
        command.arg("--pin").arg(pin("net", netns)).arg("--pin").arg(pin("uts", &dir.join("uts")));
        // containerd's defaults for a pod's own network: ports and ping without privileges.
        for default in ["net.ipv4.ip_unprivileged_port_start=0", "net.ipv4.ping_group_range=0 2147483647"] {
            command.arg("--sysctl").arg(default);
        }
    }
    for (key, value) in &record.config.sysctls {
        command.arg("--sysctl").arg(format!("{key}={value}"));
    }
    let output = command.stderr(Stdio::inherit()).output().await.map_err(Error::io("start a helper for", dir))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Helper {
        message: format!("failed to make the pod's namespaces: {}", String::from_utf8_lossy(&output.stdout).trim()),
    })
}

/// Stops the sandbox's containers at once and gives its address back. The caller stops them with grace before.
pub(super) async fn stop(inner: &Inner, id: &str) -> Result<(), Error> {
    let Some(mut record) = inner.sandbox(id) else { return Ok(()) };
    for container in inner.containers_of(id) {
        inner.stop_container(&container, std::time::Duration::ZERO).await?;
    }
    if !record.released {
        let kept = (record.conflist.clone(), record.result.clone());
        let detached = inner.settings.cni.del(&record.attachment(), kept.0.as_ref(), kept.1.as_ref()).await;
        match detached {
            // Never attached, and no plugin to ask.
            Err(crate::cni::Error::NotInitialized { .. }) if record.conflist.is_none() => {}
            other => other.map_err(|source| Error::Network { operation: "destroy", id: id.to_owned(), source })?,
        }
    }
    if let Some(netns) = &record.netns {
        overlay::unmount(netns).map_err(Error::io("unmount", netns))?;
        let _ = std::fs::remove_file(netns);
    }
    record.ready = false;
    record.released = true;
    inner.keep_sandbox(&record)
}

/// Removes a stopped sandbox with its containers, its directory, and the pod's cgroups if it was the pod's last.
pub(super) async fn remove(inner: &Inner, id: &str) -> Result<(), Error> {
    let Some(record) = inner.sandbox(id) else { return Ok(()) };
    stop(inner, id).await?;
    for container in inner.containers_of(id) {
        inner.remove_container(&container)?;
    }
    remove_dir(&inner.sandbox_dir(id))?;
    inner.forget_sandbox(id);
    let uid = &record.config.pod.uid;
    if !inner.has_sandbox_of(uid) {
        let group = cgroups::pod_path(&inner.settings.cgroup_root, uid);
        tokio::task::spawn_blocking(move || cgroups::remove(&group)).await.expect("removing a group does not panic");
    }
    Ok(())
}

/// Namespaces of the sandbox for a container's spec, as `(kind, path)`.
pub(super) fn namespaces(record: &SandboxRecord, dir: &Path, host_ipc: bool) -> Vec<(&'static str, PathBuf)> {
    let mut namespaces = Vec::with_capacity(3);
    if let Some(netns) = &record.netns {
        namespaces.push(("network", netns.clone()));
        namespaces.push(("uts", dir.join("uts")));
    }
    if !host_ipc {
        namespaces.push(("ipc", dir.join("ipc")));
    }
    namespaces
}
