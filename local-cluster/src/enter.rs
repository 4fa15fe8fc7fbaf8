//! Moving the calling process into a node, as `nsenter` would: its network and its mounts, so that the agent's socket,
//! bpffs and devices are the node's.
//!
//! For a process with one thread only: the kernel refuses a mount namespace to a thread that shares its root directory.

use std::{fs::File, io};

use nix::sched::{CloneFlags, setns};

use crate::cluster::{self, Cluster};

/// What keeps a process out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster or the node.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The namespaces.
    #[error("entering {node} (root is needed)")]
    Enter {
        /// Which.
        node: String,
        /// Why not.
        source: io::Error,
    },
}

/// Enters a node of a running cluster.
pub fn node(cluster: &str, node: &str) -> Result<(), Error> {
    let pid = Cluster::running(cluster)?.node_pid(node)?;
    let failed = |source: io::Error| Error::Enter { node: node.to_owned(), source };
    let open = |namespace: &str| File::open(format!("/proc/{pid}/ns/{namespace}")).map_err(failed);
    let (net, mnt) = (open("net")?, open("mnt")?);
    setns(net, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
    setns(mnt, CloneFlags::CLONE_NEWNS).map_err(|errno| failed(errno.into()))
}
