//! What every part of the node shares: who it is, and its three neighbours (API server, runtime, disk).

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::runtime::reflector::Store;

use crate::address::NodeIps;
use crate::events::Recorder;
use crate::limits::Allocatable;
use crate::runtime::Runtime;

/// The node's identity and its neighbours. Made once.
pub(crate) struct Node {
    /// `metadata.name` of its Node.
    pub(crate) name: String,
    /// Its InternalIPs.
    pub(crate) ips: NodeIps,
    /// Where it serves logs.
    pub(crate) port: u16,
    /// To the API server, as `system:node:<name>`.
    pub(crate) client: Client,
    /// What runs containers.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// `pods/<uid>` below it holds a pod's volumes, logs and generated files.
    pub(crate) state_dir: PathBuf,
    /// What it gives to pods.
    pub(crate) allocatable: Allocatable,
    /// Records events.
    pub(crate) events: Recorder,
    /// All Services of the cluster, for the pods' environment.
    pub(crate) services: Store<Service>,
}

impl Node {
    /// A pod's directory.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.state_dir.join("pods").join(uid)
    }
}
