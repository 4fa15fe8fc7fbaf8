//! What runs of a cluster: written by the supervisor after each change, read by everyone who looks for a process.
//!
//! Pids are the host's. They are a hint: a reader believes one only while it is in the cgroup that it belongs to.

use std::{collections::BTreeMap, fs, io, os::fd::RawFd, path::Path};

use serde::{Deserialize, Serialize};

/// The cluster's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The supervisor.
    pub supervisor: i32,
    /// The API server.
    pub server: Option<i32>,
    /// The publisher; its network namespace is "outside".
    pub outside: Option<i32>,
    /// pid 1 of each node that is on.
    pub nodes: BTreeMap<String, i32>,
    /// What the publisher holds for a supervisor that comes after this one.
    #[serde(default)]
    pub held: Option<Held>,
}

/// Numbers of descriptors in the publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The fabric's network namespace: without a holder it would go, and every wire between nodes with it.
    pub fabric: RawFd,
    /// The API server's listener on the host.
    pub api: RawFd,
    /// Listeners of published ports, in the spec's order.
    pub published: Vec<RawFd>,
}

impl State {
    /// Reads the file; absent or torn is `None`.
    pub fn read(path: &Path) -> Option<State> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Replaces the file in one step.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("next");
        fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&next, path)
    }
}
