//! Containers of the embedded runtime: from the bundle to the helper's end.
//!
//! A container is what its directory says and what its helper's lock says; [`Live`] is that, read once and kept.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::embedded::{Inner, new_id};
use super::helper::{self, ExitFile};
use super::records::{self, ContainerRecord, SandboxRecord};
use super::{Container, ContainerConfig, Ended, Error, Exit, State, cgroups, overlay, sandboxes, spec, user};
use crate::image::{Image, ImageConfig};

/// How long a container may take to die of SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// A container's record and its present.
pub(super) struct Live {
    pub(super) record: ContainerRecord,
    exit: Option<Exit>,
    ended: watch::Sender<bool>,
}

impl Inner {
    /// A container of an earlier process: ended, lost, or still held by its helper.
    pub(super) fn adopt(self: &Arc<Self>, mut record: ContainerRecord) {
        let dir = self.container_dir(&record.id);
        if record.started_at.is_none() && (helper::is_alive(&dir) || dir.join("exit.json").exists()) {
            // This node died between starting it and writing that down.
            record.started_at = Some(record.created_at);
        }
        let exit = records::exit_of(&dir, record.started_at.is_some());
        let runs = record.started_at.is_some() && exit.is_none();
        let (id, ended) = (record.id.clone(), watch::channel(exit.is_some()).0);
        self.container_map().insert(id.clone(), Live { record, exit, ended });
        if !runs {
            self.tidy(&id);
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            // Not our child: its lock tells when it has ended.
            while helper::is_alive(&dir) {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            inner.finish(&id);
        });
    }

    /// The helper has ended: takes down what it left and tells everybody.
    fn finish(&self, id: &str) {
        let exit = Some(records::ended(&self.container_dir(id)));
        self.tidy(id);
        let mut containers = self.container_map();
        let Some(live) = containers.get_mut(id) else { return };
        live.exit = exit;
        live.ended.send_replace(true);
        let ended = Ended { pod_uid: live.record.pod.uid.clone(), container: id.to_owned() };
        drop(containers);
        // Nobody listening is fine: the state says the same.
        let _ = self.events.send(ended);
    }

    /// Removes what only a running container needs. Its writable layer stays until the container is removed.
    fn tidy(&self, id: &str) {
        let cgroup = self
            .container_map()
            .get(id)
            .filter(|live| live.record.started_at.is_some())
            .map(|live| live.record.cgroup.clone());
        let Some(cgroup) = cgroup else { return };
        if let Err(error) = overlay::unmount(&self.container_dir(id).join("rootfs")) {
            tracing::warn!(container = id, %error, "the root filesystem could not be unmounted");
        }
        // A helper that was lost leaves both.
        let _ = fs::remove_dir_all(self.settings.state_dir.join("oci").join(id));
        cgroups::remove(&cgroup);
    }

    /// Blocking: unpacks layers if it must, mounts, writes the bundle.
    pub(super) fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox_id).filter(|record| record.ready);
        let sandbox = sandbox.ok_or_else(|| Error::NotFound { kind: "ready sandbox", id: sandbox_id.to_owned() })?;
        let image = self.settings.store.image(&config.image)?;
        let image = image.ok_or_else(|| Error::NotFound { kind: "image", id: config.image.clone() })?;
        let (id, image_config) = (new_id(), self.settings.store.config(&image)?);
        let dir = self.container_dir(&id);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let record = ContainerRecord {
            cgroup: cgroups::container_path(&self.settings.cgroup_root, &sandbox.config.pod.uid, &id),
            id,
            sandbox: sandbox_id.to_owned(),
            pod: sandbox.config.pod.clone(),
            config: config.clone(),
            image_id: image.id.clone(),
            stop_signal: helper::signal_number(&image_config.stop_signal),
            created_at: Timestamp::now(),
            started_at: None,
        };
        if let Err(error) = self.write_bundle(&dir, &record, &sandbox, &image, &image_config) {
            records::remove_dir(&dir)?;
            return Err(error);
        }
        records::write_json(&dir.join("container.json"), &record)?;
        let id = record.id.clone();
        self.container_map().insert(id.clone(), Live { record, exit: None, ended: watch::channel(false).0 });
        Ok(id)
    }

    fn write_bundle(
        &self,
        dir: &Path,
        record: &ContainerRecord,
        sandbox: &SandboxRecord,
        image: &Image,
        image_config: &ImageConfig,
    ) -> Result<(), Error> {
        let layers = self.settings.store.layer_dirs(image)?;
        overlay::mount_rootfs(dir, &layers).map_err(Error::io("mount the root filesystem of", dir))?;
        let security = &record.config.security;
        let user = user::resolve(&dir.join("rootfs"), &image_config.user, security).map_err(spec::Error::from)?;
        let sandbox_dir = self.sandbox_dir(&sandbox.id);
        let hostname = if sandbox.config.host_network { node_hostname() } else { sandbox.config.hostname.clone() };
        let spec = spec::generate(&spec::Input {
            config: &record.config,
            image: image_config,
            user: &user,
            namespaces: &sandboxes::namespaces(sandbox, &sandbox_dir, security.host_ipc),
            cgroup: &record.cgroup,
            hostname: &hostname,
            shm: &sandbox_dir.join("shm"),
            available: self.available,
        })?;
        records::write_json(&dir.join("config.json"), &spec)?;
        let helper = serde_json::json!({
            "id": record.id,
            "state_root": self.settings.state_dir.join("oci"),
            "log_path": record.config.log_path,
            "oom_score_adj": record.config.resources.oom_score_adj,
            "cgroup_path": record.cgroup,
            "device_filter": !security.privileged,
        });
        records::write_json(&dir.join("helper.json"), &helper)
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let dir = self.container_dir(id);
        self.in_state(id, "start", State::Created)?;
        // Before it runs, so that a node which dies here looks for its helper.
        self.started(id)?;
        match helper::run(&dir).await {
            Ok(mut child) => {
                let (inner, id) = (self.clone(), id.to_owned());
                tokio::spawn(async move {
                    let _ = child.wait().await;
                    inner.finish(&id);
                });
                Ok(())
            }
            Err(error) => {
                let exit = ExitFile {
                    exit_code: 128,
                    signal: 0,
                    oom_killed: false,
                    finished_at: Timestamp::now(),
                    reason: Some("StartError".to_owned()),
                    message: error.text(),
                };
                helper::write_exit(&dir, &exit)?;
                self.finish(id);
                Err(error)
            }
        }
    }

    pub(super) fn in_state(&self, id: &str, operation: &'static str, wanted: State) -> Result<(), Error> {
        let containers = self.container_map();
        let live = containers.get(id).ok_or_else(|| Error::NotFound { kind: "container", id: id.to_owned() })?;
        let state = live.state();
        if state == wanted { Ok(()) } else { Err(Error::State { operation, id: id.to_owned(), state }) }
    }

    fn started(&self, id: &str) -> Result<(), Error> {
        let mut containers = self.container_map();
        let live = containers.get_mut(id).ok_or_else(|| Error::NotFound { kind: "container", id: id.to_owned() })?;
        live.record.started_at = Some(Timestamp::now());
        records::write_json(&self.container_dir(id).join("container.json"), &live.record)
    }

    pub(super) async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        let found =
            self.container_map().get(id).map(|live| (live.state(), live.record.stop_signal, live.ended.subscribe()));
        let Some((State::Running, stop_signal, mut ended)) = found else { return Ok(()) };
        let dir = self.container_dir(id);
        if !grace.is_zero() {
            helper::signal(&dir, stop_signal).map_err(Error::io("signal", &dir))?;
            if tokio::time::timeout(grace, ended.wait_for(|ended| *ended)).await.is_ok() {
                return Ok(());
            }
        }
        helper::signal(&dir, libc::SIGKILL).map_err(Error::io("signal", &dir))?;
        match tokio::time::timeout(KILL_WAIT, ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::State { operation: "kill", id: id.to_owned(), state: State::Running }),
        }
    }

    pub(super) fn remove_container(&self, id: &str) -> Result<(), Error> {
        match self.container_map().get(id).map(|live| (live.state(), live.record.cgroup.clone())) {
            None => return Ok(()),
            Some((State::Running, _)) => {
                return Err(Error::State { operation: "remove", id: id.to_owned(), state: State::Running });
            }
            Some((_, cgroup)) => cgroups::remove(&cgroup),
        }
        records::remove_dir(&self.container_dir(id))?;
        self.container_map().remove(id);
        Ok(())
    }
}

impl Live {
    fn state(&self) -> State {
        match (&self.exit, self.record.started_at) {
            (Some(_), _) => State::Exited,
            (None, Some(_)) => State::Running,
            (None, None) => State::Created,
        }
    }

    pub(super) fn view(&self) -> Container {
        Container {
            id: self.record.id.clone(),
            sandbox: self.record.sandbox.clone(),
            pod: self.record.pod.clone(),
            config: self.record.config.clone(),
            image_id: self.record.image_id.clone(),
            state: self.state(),
            created_at: self.record.created_at,
            started_at: self.record.started_at,
            exit: self.exit.clone(),
        }
    }
}

fn node_hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
