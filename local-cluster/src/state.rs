//! What runs of a cluster: written by the supervisor after each change, read by everyone who looks for a process.
//!
//! Pids are the host's. They are a hint: a reader believes one only while it is in the cgroup that it belongs to.

use std::{collections::BTreeMap, fs, io, path::Path};

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
