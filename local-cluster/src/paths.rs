//! Where a cluster keeps its files. Every path derives from the cluster's name; nothing else is ever written.
//!
//! Pure. `files` lasts until `down`; `runtime` dies with the machine's boot, as the processes do.

use std::path::{Path, PathBuf};

/// Paths of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `/var/lib/weft/clusters/<name>`.
    pub files: PathBuf,
    /// `/run/weft/<name>`.
    pub runtime: PathBuf,
}

impl Paths {
    /// Paths of the cluster of this name.
    pub fn new(name: &str) -> Paths {
        Paths { files: Path::new("/var/lib/weft/clusters").join(name), runtime: Path::new("/run/weft").join(name) }
    }

    /// The `Spec`, written last by `start` and removed first by `stop`: without it the files are half of a cluster.
    pub fn spec(&self) -> PathBuf {
        self.files.join("cluster.json")
    }

    /// The API server's data directory.
    pub fn server(&self) -> PathBuf {
        self.files.join("server")
    }

    /// The kubeconfig for the user at the host.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.files.join("admin.kubeconfig")
    }

    /// The host's network as it was before the cluster's first start.
    pub fn host_before(&self) -> PathBuf {
        self.files.join("host-before.txt")
    }

    /// The image store that all nodes share.
    pub fn images(&self) -> PathBuf {
        self.files.join("images")
    }

    /// Logs of what runs outside the nodes.
    pub fn logs(&self) -> PathBuf {
        self.files.join("log")
    }

    /// Programs that the cluster was started with.
    pub fn programs(&self) -> PathBuf {
        self.files.join("bin")
    }

    /// Everything of one node.
    pub fn node(&self, node: &str) -> PathBuf {
        self.files.join("nodes").join(node)
    }

    /// Locked by the supervisor while it lives.
    pub fn lock(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// What runs, written by the supervisor.
    pub fn state(&self) -> PathBuf {
        self.runtime.join("state.json")
    }

    /// While this file exists, the supervisor leaves the node off.
    pub fn hold(&self, node: &str) -> PathBuf {
        self.runtime.join("hold").join(node)
    }
}

/// Cgroup of a cluster, relative to each hierarchy's mount.
pub fn cgroup(cluster: &str) -> PathBuf {
    Path::new("weft").join(cluster)
}
