//! The embedded runtime: overlayfs, libcontainer in a helper process per container, and records on disk.
//!
//! What runs does not depend on this process: helpers outlive it, and [`Embedded::open`] finds everything again. In memory
//! are the records and how each container ended; both can be lost.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::broadcast;

use super::containers::Live;
pub(crate) use super::overlay::{mount_tmpfs, unmount};
use super::records::{self, ContainerRecord, SandboxRecord};
use super::{
    Container, ContainerConfig, Ended, Error, ExecResult, Reply, Runtime, Sandbox, SandboxConfig, Version, collect,
    exec, sandboxes,
};
use crate::cni::Cni;
use crate::image::{Image, ImageConfig, Store};

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

pub(super) struct Inner {
    pub(super) settings: Settings,
    sandboxes: Mutex<HashMap<String, SandboxRecord>>,
    containers: Mutex<HashMap<String, Live>>,
    /// Held by whoever has a plugin make an interface, and alone by GC.
    pub(super) network: tokio::sync::RwLock<()>,
    pub(super) events: broadcast::Sender<Ended>,
    /// Capabilities that this process could give away.
    pub(super) available: u64,
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
        let containers: Vec<ContainerRecord> =
            records::read_all(&settings.state_dir.join("containers"), "container.json")?;
        let mut sandboxes: Vec<SandboxRecord> =
            records::read_all(&settings.state_dir.join("sandboxes"), "sandbox.json")?;
        for sandbox in &mut sandboxes {
            sandbox.ready = sandbox.ready && sandbox.is_alive(&settings.state_dir.join("sandboxes").join(&sandbox.id));
        }
        let inner = Arc::new(Inner {
            settings,
            sandboxes: Mutex::new(sandboxes.into_iter().map(|record| (record.id.clone(), record)).collect()),
            containers: Mutex::default(),
            network: tokio::sync::RwLock::default(),
            events: broadcast::channel(1024).0,
            available: bounding_set(),
        });
        for record in containers {
            inner.adopt(record);
        }
        Ok(Self { inner })
    }

    /// Has the network plugins release what is of no sandbox, for ever.
    pub fn keep_network_clean(&self) -> impl Future<Output = ()> + use<> {
        collect::keep(self.inner.clone())
    }

    /// The same once; false if an interface is being made just now.
    ///
    /// # Errors
    /// That there is no network yet, or what a plugin said.
    pub async fn clean_network(&self) -> Result<bool, crate::cni::Error> {
        collect::collect(&self.inner).await
    }
}

impl Inner {
    pub(super) fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.settings.state_dir.join("sandboxes").join(id)
    }

    pub(super) fn container_dir(&self, id: &str) -> PathBuf {
        self.settings.state_dir.join("containers").join(id)
    }

    fn sandbox_map(&self) -> MutexGuard<'_, HashMap<String, SandboxRecord>> {
        self.sandboxes.lock().expect("no panic happens under this lock")
    }

    pub(super) fn container_map(&self) -> MutexGuard<'_, HashMap<String, Live>> {
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

    /// Ids of the sandboxes of which that is true.
    pub(super) fn sandboxes_that(&self, holds: impl Fn(&SandboxRecord) -> bool) -> Vec<String> {
        self.sandbox_map().values().filter(|record| holds(record)).map(|record| record.id.clone()).collect()
    }

    pub(super) fn has_sandbox_of(&self, uid: &str) -> bool {
        self.sandbox_map().values().any(|record| record.config.pod.uid == uid)
    }

    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<String> {
        self.container_map()
            .values()
            .filter(|live| live.record.sandbox == sandbox)
            .map(|live| live.record.id.clone())
            .collect()
    }
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

    fn sandboxes(&self, pod_uid: Option<&str>) -> Vec<Sandbox> {
        let map = self.inner.sandbox_map();
        let wanted = |record: &&SandboxRecord| pod_uid.is_none_or(|uid| record.config.pod.uid == uid);
        map.values().filter(wanted).map(SandboxRecord::view).collect()
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

    fn containers(&self, pod_uid: Option<&str>) -> Vec<Container> {
        let map = self.inner.container_map();
        map.values().filter(|live| pod_uid.is_none_or(|uid| live.record.pod.uid == uid)).map(Live::view).collect()
    }

    fn exec<'a>(&'a self, id: &'a str, command: &'a [String], timeout: Duration) -> Reply<'a, ExecResult> {
        Box::pin(exec::sync(&self.inner, id, command, timeout))
    }

    fn exec_stream<'a>(&'a self, id: &'a str, request: &'a exec::ExecRequest) -> Reply<'a, exec::Process> {
        Box::pin(exec::start(&self.inner, id, request))
    }

    fn connect<'a>(&'a self, sandbox: &'a str, port: u16) -> Reply<'a, tokio::net::TcpStream> {
        Box::pin(exec::connect(&self.inner, sandbox, port))
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
