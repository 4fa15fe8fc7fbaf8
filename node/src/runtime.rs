//! The seam between pods and containers, in the shape of the container runtime interface (CRI v1).
//!
//! Above it, pods: what should run, when, and what its status says. Below it, sandboxes, containers and images. The
//! embedded implementation is [`embedded::Embedded`]; one over CRI's gRPC fits the same trait. A runtime knows no pod
//! specs, no API server and no back-off.

mod cgroups;
mod collect;
mod containers;
pub mod embedded;
pub mod exec;
mod helper;
mod overlay;
mod records;
mod sandboxes;
pub mod spec;
mod terminal;
mod user;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::image::{Image, ImageConfig};

/// Why the runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sandbox, container or image.
    #[error("{kind} {id:?} not found")]
    NotFound {
        /// `sandbox`, `container` or `image`.
        kind: &'static str,
        /// What was asked for.
        id: String,
    },
    /// It is not in a state that allows the operation.
    #[error("cannot {operation} container {id}: it is {state:?}")]
    State {
        /// What was tried.
        operation: &'static str,
        /// On which container.
        id: String,
        /// What it is.
        state: State,
    },
    /// The pod's network could not be set up or taken down.
    #[error("failed to {operation} network for sandbox {id:?}")]
    Network {
        /// `setup` or `destroy`.
        operation: &'static str,
        /// The sandbox.
        id: String,
        /// What the plugin or its configuration said.
        #[source]
        source: crate::cni::Error,
    },
    /// The helper process said no.
    #[error("{message}")]
    Helper {
        /// Its own words.
        message: String,
    },
    /// A file, directory or mount.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A port of a sandbox does not answer.
    #[error("failed to connect to localhost:{port} inside the network of sandbox {sandbox:?}")]
    Connect {
        /// Which port.
        port: u16,
        /// Of which sandbox.
        sandbox: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The image store.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// The container cannot be described to a runtime.
    #[error(transparent)]
    Spec(#[from] spec::Error),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }

    /// The error with its causes, as events print it.
    pub fn text(&self) -> String {
        crate::error_text(self)
    }
}

/// The pod that a sandbox or container belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodId {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// What a sandbox is made of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod.
    pub pod: PodId,
    /// Counts the sandboxes of one pod from 0.
    pub attempt: u32,
    /// Unused with `host_network`.
    pub hostname: String,
    /// The pod shares the node's network and host-name namespaces; no CNI.
    pub host_network: bool,
    /// Set in the pod's namespaces.
    pub sysctls: Vec<(String, String)>,
    /// `hostPort`s, for plugins that have the `portMappings` capability.
    pub port_mappings: Vec<PortMapping>,
}

/// One `hostPort`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// On the node.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// One address of the node; empty: all of them.
    #[serde(default, rename = "hostIP", skip_serializing_if = "String::is_empty")]
    pub host_ip: String,
}

/// A pod's namespaces and address.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// 64 hex digits.
    pub id: String,
    /// The pod.
    pub pod: PodId,
    /// Which sandbox of the pod it is.
    pub attempt: u32,
    /// Its namespaces exist and its network is set up.
    pub ready: bool,
    /// Empty with `host_network`.
    pub ips: Vec<IpAddr>,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// A bind mount into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the node.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: PathBuf,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// Limits of one container, in the units of cgroup v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight; 1024 for a core.
    pub cpu_shares: u64,
    /// Microseconds per `CPU_PERIOD`; 0 for no limit.
    pub cpu_quota: i64,
    /// Bytes; 0 for no limit.
    pub memory_limit: i64,
    /// −1000 to 1000; higher dies first.
    pub oom_score_adj: i32,
}

/// The part of a container's and a pod's security context that the runtime applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Overrides the image's user.
    pub run_as_user: Option<u32>,
    /// Overrides the image's group.
    pub run_as_group: Option<u32>,
    /// Besides the image's own.
    pub supplemental_groups: Vec<u32>,
    /// Refuse to run as user 0.
    pub run_as_non_root: bool,
    /// All capabilities and devices.
    pub privileged: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// The root filesystem cannot be written.
    pub read_only_rootfs: bool,
    /// Without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Without `CAP_`; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// Shares the node's pid namespace.
    pub host_pid: bool,
    /// Shares the node's ipc namespace.
    pub host_ipc: bool,
}

/// What a container is made of. `command` and `args` are expanded already.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Its name in the pod.
    pub name: String,
    /// Counts its restarts from 0.
    pub attempt: u32,
    /// As the pod spec has it.
    pub image: String,
    /// Replaces the image's entrypoint and drops its cmd.
    pub command: Vec<String>,
    /// Replaces the image's cmd.
    pub args: Vec<String>,
    /// Empty for the image's.
    pub working_dir: String,
    /// Over the image's own.
    pub env: Vec<(String, String)>,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub resources: Resources,
    /// Privileges.
    pub security: Security,
    /// In CRI format.
    pub log_path: PathBuf,
    /// The file behind `terminationMessagePath`, read by the node.
    pub termination_log: Option<PathBuf>,
    /// Hash of the container's spec.
    pub hash: String,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Started, not ended.
    Running,
    /// Ended, or lost.
    Exited,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 + signal for a killed process.
    pub code: i32,
    /// 0 for none.
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`.
    pub reason: String,
    /// Why it could not be started; empty otherwise.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// A container as the runtime sees it.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Its sandbox.
    pub sandbox: String,
    /// Its pod.
    pub pod: PodId,
    /// What it was made of.
    pub config: ContainerConfig,
    /// The image's id.
    pub image_id: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// A container has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Of which pod.
    pub pod_uid: String,
    /// Which one.
    pub container: String,
}

/// What a process run in a container said.
#[derive(Clone, Debug)]
pub struct ExecResult {
    /// Standard output and error together.
    pub output: String,
    /// Its exit code.
    pub code: i32,
}

/// Name and version for `nodeInfo.containerRuntimeVersion`.
#[derive(Clone, Debug)]
pub struct Version {
    /// E.g. `weft`.
    pub name: String,
    /// E.g. `0.1.0`.
    pub version: String,
}

/// A result of the runtime, some time.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// CRI's RuntimeService and ImageService, as far as pods need them.
pub trait Runtime: Send + Sync + 'static {
    /// Version.
    fn version(&self) -> Version;
    /// The network half of Status: why pods cannot be given a network yet, in the words of the Ready condition.
    fn network_ready(&self) -> Result<(), String>;
    /// RunPodSandbox.
    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> Reply<'a, Sandbox>;
    /// StopPodSandbox: stops its containers, takes its network and namespaces down. Idempotent.
    fn stop_sandbox<'a>(&'a self, id: &'a str) -> Reply<'a, ()>;
    /// RemovePodSandbox: with its containers. Idempotent.
    fn remove_sandbox<'a>(&'a self, id: &'a str) -> Reply<'a, ()>;
    /// ListPodSandbox: of one pod, or all.
    fn sandboxes(&self, pod_uid: Option<&str>) -> Vec<Sandbox>;
    /// CreateContainer; returns its id.
    fn create_container<'a>(&'a self, sandbox: &'a str, config: &'a ContainerConfig) -> Reply<'a, String>;
    /// StartContainer.
    fn start_container<'a>(&'a self, id: &'a str) -> Reply<'a, ()>;
    /// StopContainer: the image's stop signal, then SIGKILL after `grace`. Idempotent.
    fn stop_container<'a>(&'a self, id: &'a str, grace: Duration) -> Reply<'a, ()>;
    /// RemoveContainer. Idempotent.
    fn remove_container<'a>(&'a self, id: &'a str) -> Reply<'a, ()>;
    /// ListContainers: of one pod, or all.
    fn containers(&self, pod_uid: Option<&str>) -> Vec<Container>;
    /// ExecSync.
    fn exec<'a>(&'a self, id: &'a str, command: &'a [String], timeout: Duration) -> Reply<'a, ExecResult>;
    /// Exec: as ExecSync, with its streams in the caller's hands.
    fn exec_stream<'a>(&'a self, id: &'a str, request: &'a exec::ExecRequest) -> Reply<'a, exec::Process>;
    /// PortForward: a connection to a TCP port on the loopback address of a sandbox's network.
    fn connect<'a>(&'a self, sandbox: &'a str, port: u16) -> Reply<'a, tokio::net::TcpStream>;
    /// GetContainerEvents, as far as containers end.
    fn events(&self) -> broadcast::Receiver<Ended>;
    /// ImageStatus.
    fn image<'a>(&'a self, reference: &'a str) -> Reply<'a, Option<(Image, ImageConfig)>>;
    /// PullImage. The embedded runtime has no registry: what is not in the store is not found.
    fn pull_image<'a>(&'a self, reference: &'a str) -> Reply<'a, Image>;
    /// ListImages.
    fn images(&self) -> Reply<'_, Vec<(String, Image)>>;
    /// RemoveImage.
    fn remove_image<'a>(&'a self, reference: &'a str) -> Reply<'a, ()>;
}
