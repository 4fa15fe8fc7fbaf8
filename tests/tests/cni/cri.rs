//! The container runtime interface (CRI v1) as a kubelet speaks it, as far as a pod needs it. Field numbers are those of
//! `k8s.io/cri-api`; what is not written here is left at its default.
use std::{path::Path, time::Duration};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::runtime::Runtime;
use tonic::{Request, Status, client::Grpc, transport::Channel};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

/// TCP by default.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PortMapping {
    #[prost(int32, tag = "2")]
    pub(crate) container_port: i32,
    #[prost(int32, tag = "3")]
    pub(crate) host_port: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxPod {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<PodMetadata>,
    #[prost(string, tag = "2")]
    pub(crate) hostname: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) port_mappings: Vec<PortMapping>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxPod>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

/// Every answer and request that is an id alone.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusReply {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
}

#[derive(Clone, PartialEq, Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    /// An image is named by a message of one string.
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecReply {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct StatusReply {
    #[prost(message, optional, tag = "1")]
    status: Option<Conditions>,
}

#[derive(Clone, PartialEq, Message)]
struct Conditions {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, Message)]
struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    status: bool,
}

/// A runtime behind its socket.
pub(crate) struct Cri {
    runtime: Runtime,
    channel: Channel,
}

type Said<T> = Result<T, Status>;

impl Cri {
    /// None if nobody listens yet.
    pub(crate) fn connect(socket: &Path) -> Option<Cri> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let channel = runtime.block_on(agent_api::connect(socket)).ok()?;
        Some(Cri { runtime, channel })
    }

    fn call<Q, R>(&self, method: &'static str, request: Q) -> Said<R>
    where
        Q: Message + Default + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        let answer = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = tonic_prost::ProstCodec::<Q, R>::default();
            grpc.unary(Request::new(request), PathAndQuery::from_static(method), codec).await
        };
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        answer.map_err(|_| Status::deadline_exceeded(method))?.map(tonic::Response::into_inner)
    }

    /// Runtime and network are ready.
    pub(crate) fn is_ready(&self) -> bool {
        let reply: Said<StatusReply> = self.call("/runtime.v1.RuntimeService/Status", Nothing {});
        let status = reply.ok().and_then(|reply| reply.status).unwrap_or_default();
        status.conditions.len() >= 2 && status.conditions.iter().all(|condition| condition.status)
    }

    pub(crate) fn run_pod(&self, config: &PodConfig) -> Said<String> {
        let request = RunPod { config: Some(config.clone()) };
        self.call("/runtime.v1.RuntimeService/RunPodSandbox", request).map(|reply: Id| reply.id)
    }

    /// Its address.
    pub(crate) fn address(&self, sandbox: &str) -> Said<String> {
        let reply: PodStatusReply =
            self.call("/runtime.v1.RuntimeService/PodSandboxStatus", Id { id: sandbox.to_owned() })?;
        let network = reply.status.unwrap_or_default().network.unwrap_or_default();
        Ok(network.ip)
    }

    /// Makes a container and starts it; its id.
    pub(crate) fn start(&self, sandbox: &str, pod: &PodConfig, image: &str, command: &[&str]) -> Said<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".to_owned() }),
            image: Some(Id { id: image.to_owned() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        let request = CreateContainer { sandbox: sandbox.to_owned(), config: Some(config), pod: Some(pod.clone()) };
        let created: Id = self.call("/runtime.v1.RuntimeService/CreateContainer", request)?;
        let started: Said<Nothing> = self.call("/runtime.v1.RuntimeService/StartContainer", created.clone());
        started.map(|_| created.id)
    }

    /// What a command in a container prints; it must succeed.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let request = Exec { container: container.to_owned(), command, timeout: 20 };
        let reply: Said<ExecReply> = self.call("/runtime.v1.RuntimeService/ExecSync", request);
        let reply = reply.map_err(|status| status.to_string())?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if reply.code == 0 { Ok(text(reply.stdout)) } else { Err(text([reply.stdout, reply.stderr].concat())) }
    }

    pub(crate) fn stop_pod(&self, sandbox: &str) -> Said<()> {
        let id = Id { id: sandbox.to_owned() };
        self.call("/runtime.v1.RuntimeService/StopPodSandbox", id).map(|_: Nothing| ())
    }

    pub(crate) fn remove_pod(&self, sandbox: &str) -> Said<()> {
        let id = Id { id: sandbox.to_owned() };
        self.call("/runtime.v1.RuntimeService/RemovePodSandbox", id).map(|_: Nothing| ())
    }
}
