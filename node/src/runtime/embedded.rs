//! The embedded runtime: overlayfs, libcontainer in a helper process per container, and records on disk.
//!
//! What runs does not depend on this process: helpers outlive it, and [`Embedded::open`] finds everything again. In memory
//! are the records and how each container ended; both can be lost.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use super::helper::{self, ExitFile};
use super::records::{self, ContainerRecord, SandboxRecord};
pub(crate) use super::overlay::{mount_tmpfs, unmount};
use super::{
    Container, ContainerConfig, Ended, Error, ExecResult, Exit, Reply, Runtime, Sandbox, SandboxConfig, State, Version, cgroups, overlay,
    sandboxes, spec, user,
};
use crate::cni::Cni;
use crate::image::{Image, ImageConfig, Store};

/// How long a container may take to die of SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// Where things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Records, writable layers and container state; the node's own.
    pub state_dir: PathBuf,
    /// Images; shared with other nodes.
    pub store: Store,
    /// The network.
    pub cni: Cni,
    /// Above `pods/` in each hierarchy.
    pub cgroup_root: String,
    /// Pins of network namespaces; `/run/netns` on a node.
    pub netns_dir: PathBuf,
}

/// The embedded runtime.
pub struct Embedded {
    inner: Arc<Inner>,
}

/// A container's record and its present.
struct Live {
    record: ContainerRecord,
    exit: Option<Exit>,
    ended: watch::Sender<bool>,
}

pub(super) struct Inner {
    pub(super) settings: Settings,
    sandboxes: Mutex<HashMap<String, SandboxRecord>>,
    containers: Mutex<HashMap<String, Live>>,
    events: broadcast::Sender<Ended>,
    available: u64,
}

/// A new id: 64 hex digits, as containerd's.
pub(super) fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// This process's capability bounding set, as a bit mask.
fn bounding_set() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

impl Embedded {
    /// Opens the runtime and finds what runs. Call inside a tokio runtime.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        for sub in ["sandboxes", "containers", "oci"] {
            let path = settings.state_dir.join(sub);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let containers: Vec<ContainerRecord> = records::read_all(&settings.state_dir.join("containers"), "container.json")?;
        let mut sandboxes: Vec<SandboxRecord> = records::read_all(&settings.state_dir.join("sandboxes"), "sandbox.json")?;
        for sandbox in &mut sandboxes {
            sandbox.ready = sandbox.ready && sandbox.is_alive(&settings.state_dir.join("sandboxes").join(&sandbox.id));
        }
        let inner = Arc::new(Inner {
            settings,
            sandboxes: Mutex::new(sandboxes.into_iter().map(|record| (record.id.clone(), record)).collect()),
            containers: Mutex::default(),
            events: broadcast::channel(1024).0,
            available: bounding_set(),
        });
        for record in containers {
            inner.adopt(record);
        }
        Ok(Self { inner })
    }
}

impl Inner {
    pub(super) fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.settings.state_dir.join("sandboxes").join(id)
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.settings.state_dir.join("containers").join(id)
    }

    fn sandbox_map(&self) -> MutexGuard<'_, HashMap<String, SandboxRecord>> {
        self.sandboxes.lock().expect("no panic happens under this lock")
    }

    fn container_map(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.containers.lock().expect("no panic happens under this lock")
    }

    /// Writes the record to disk and to memory.
    pub(super) fn keep_sandbox(&self, record: &SandboxRecord) -> Result<(), Error> {
        let dir = self.sandbox_dir(&record.id);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        records::write_json(&dir.join("sandbox.json"), record)?;
        self.sandbox_map().insert(record.id.clone(), record.clone());
        Ok(())
    }

    pub(super) fn sandbox(&self, id: &str) -> Option<SandboxRecord> {
        self.sandbox_map().get(id).cloned()
    }

    pub(super) fn forget_sandbox(&self, id: &str) {
        self.sandbox_map().remove(id);
    }

    pub(super) fn has_sandbox_of(&self, uid: &str) -> bool {
        self.sandbox_map().values().any(|record| record.config.pod.uid == uid)
    }

    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<String> {
        self.container_map().values().filter(|live| live.record.sandbox == sandbox).map(|live| live.record.id.clone()).collect()
    }

    /// A container of an earlier process: ended, lost, or still held by its helper.
    fn adopt(self: &Arc<Self>, mut record: ContainerRecord) {
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
        let exit = records::exit_of(&self.container_dir(id), true);
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
        let cgroup = self.container_map().get(id).filter(|live| live.record.started_at.is_some()).map(|live| live.record.cgroup.clone());
        let Some(cgroup) = cgroup else { return };
        if let Err(error) = overlay::unmount(&self.container_dir(id).join("rootfs")) {
            tracing::warn!(container = id, %error, "the root filesystem could not be unmounted");
        }
        // A helper that was lost leaves both.
        let _ = fs::remove_dir_all(self.settings.state_dir.join("oci").join(id));
        cgroups::remove(&cgroup);
    }

    /// Blocking: unpacks layers if it must, mounts, writes the bundle.
    fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String, Error> {
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

    fn write_bundle(&self, dir: &Path, record: &ContainerRecord, sandbox: &SandboxRecord, image: &Image, image_config: &ImageConfig) -> Result<(), Error> {
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
        });
        records::write_json(&dir.join("helper.json"), &helper)
    }

    async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
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

    fn in_state(&self, id: &str, operation: &'static str, wanted: State) -> Result<(), Error> {
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
        let found = self.container_map().get(id).map(|live| (live.state(), live.record.stop_signal, live.ended.subscribe()));
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
            Some((State::Running, _)) => return Err(Error::State { operation: "remove", id: id.to_owned(), state: State::Running }),
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

    fn view(&self) -> Container {
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

/// Runs blocking work on tokio's blocking threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("blocking work does not panic")
}

impl Runtime for Embedded {
    fn version(&self) -> Version {
        Version { name: "weft".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn network_ready(&self) -> Result<(), String> {
        match self.inner.settings.cni.conflist() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("Network plugin returns error: {}", crate::error_text(&error))),
        }
    }

    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> Reply<'a, Sandbox> {
        Box::pin(sandboxes::run(&self.inner, config))
    }

    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Reply<'a, ()> {
        Box::pin(sandboxes::stop(&self.inner, id))
    }

    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Reply<'a, ()> {
        Box::pin(sandboxes::remove(&self.inner, id))
    }

    fn sandboxes(&self) -> Vec<Sandbox> {
        self.inner.sandbox_map().values().map(SandboxRecord::view).collect()
    }

    fn create_container<'a>(&'a self, sandbox: &'a str, config: &'a ContainerConfig) -> Reply<'a, String> {
        let (inner, sandbox, config) = (self.inner.clone(), sandbox.to_owned(), config.clone());
        Box::pin(blocking(move || inner.create_container(&sandbox, &config)))
    }

    fn start_container<'a>(&'a self, id: &'a str) -> Reply<'a, ()> {
        Box::pin(self.inner.start_container(id))
    }

    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Reply<'a, ()> {
        Box::pin(self.inner.stop_container(id, grace))
    }

    fn remove_container<'a>(&'a self, id: &'a str) -> Reply<'a, ()> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        Box::pin(blocking(move || inner.remove_container(&id)))
    }

    fn containers(&self) -> Vec<Container> {
        self.inner.container_map().values().map(Live::view).collect()
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a [String], timeout: Duration) -> Reply<'a, ExecResult> {
        Box::pin(async move {
            self.inner.in_state(id, "execute in", State::Running)?;
            let dir = self.inner.container_dir(id);
            let mut helper = helper::command("exec");
            helper.arg(&dir).arg("--").args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
            let output = tokio::time::timeout(timeout, helper.output()).await;
            let timed_out = |_| Error::Helper { message: format!("command {command:?} timed out") };
            let output = output.map_err(timed_out)?.map_err(Error::io("start a helper for", &dir))?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            Ok(ExecResult { output: text, code: output.status.code().unwrap_or(-1) })
        })
    }

    fn events(&self) -> broadcast::Receiver<Ended> {
        self.inner.events.subscribe()
    }

    fn image<'a>(&'a self, reference: &'a str) -> Reply<'a, Option<(Image, ImageConfig)>> {
        let (store, reference) = (self.inner.settings.store.clone(), reference.to_owned());
        Box::pin(blocking(move || {
            let Some(image) = store.image(&reference)? else { return Ok(None) };
            let config = store.config(&image)?;
            Ok(Some((image, config)))
        }))
    }

    fn pull_image<'a>(&'a self, reference: &'a str) -> Reply<'a, Image> {
        let (store, reference) = (self.inner.settings.store.clone(), reference.to_owned());
        Box::pin(blocking(move || {
            let found = store.image(&reference)?;
            let name = crate::image::reference::normalize(&reference).map_err(crate::image::Error::from)?;
            found.ok_or_else(|| Error::Helper {
                message: format!(
                    "failed to pull and unpack image \"{name}\": failed to resolve reference \"{name}\": {name}: not found \
                     (this node has no registry: load the image with `weft image load`)"
                ),
            })
        }))
    }

    fn images(&self) -> Reply<'_, Vec<(String, Image)>> {
        let store = self.inner.settings.store.clone();
        Box::pin(blocking(move || Ok(store.images()?)))
    }

    fn remove_image<'a>(&'a self, reference: &'a str) -> Reply<'a, ()> {
        let (store, reference) = (self.inner.settings.store.clone(), reference.to_owned());
        Box::pin(blocking(move || Ok(store.remove(&reference)?)))
    }
}
