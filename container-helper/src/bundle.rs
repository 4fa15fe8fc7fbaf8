//! The files in a container's directory: the contract between the node and the helper.
//!
//! The node writes `config.json` (OCI runtime spec) and `helper.json`, then starts the helper. The helper holds `lock`
//! while it lives, answers one line of [`Started`] on its standard output, reads signal numbers from the fifo `control`
//! and leaves `exit.json`. A directory with neither a held lock nor `exit.json` is a container whose helper was lost.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Held with `flock` by a living helper.
pub(crate) const LOCK: &str = "lock";
/// A fifo: each line is a signal number for the container's init process.
pub(crate) const CONTROL: &str = "control";
/// How the container ended.
pub(crate) const EXIT: &str = "exit.json";
/// What the helper needs beside the runtime spec.
pub(crate) const HELPER: &str = "helper.json";

/// `helper.json`, written by the node.
#[derive(Debug, Deserialize)]
pub(crate) struct HelperConfig {
    /// The container's id.
    pub(crate) id: String,
    /// Where libcontainer keeps its state; shared by all containers of a node.
    pub(crate) state_root: String,
    /// The log file in CRI format.
    pub(crate) log_path: String,
    /// Written to the container's `oom_score_adj`; a refusal is tolerated (lowering it needs CAP_SYS_RESOURCE).
    pub(crate) oom_score_adj: i32,
    /// The container's cgroup, from the root of each hierarchy.
    pub(crate) cgroup_path: String,
    /// Whether the unified hierarchy's device filter is wanted: for every container that is not privileged.
    pub(crate) device_filter: bool,
}

/// The helper's answer on its standard output, one line of JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Started {
    /// The container runs; its init process in the node's pid namespace.
    Pid(i32),
    /// It could not be created or started.
    Error(String),
}

/// `exit.json`: how the container ended.
#[derive(Debug, Serialize)]
pub(crate) struct Exit {
    /// The exit code, 128 + signal for a killed process.
    pub(crate) exit_code: i32,
    /// The signal that killed it, 0 for none.
    pub(crate) signal: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub(crate) oom_killed: bool,
    /// RFC 3339 with nanoseconds.
    pub(crate) finished_at: String,
}

/// The present moment, RFC 3339 with nine digits, as the CRI log format has it.
pub(crate) fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// Reads and parses `helper.json`.
pub(crate) fn read_config(dir: &Path) -> io::Result<HelperConfig> {
    serde_json::from_slice(&fs::read(dir.join(HELPER))?).map_err(io::Error::other)
}

/// Writes `exit.json` so that a reader sees all of it or nothing.
pub(crate) fn write_exit(dir: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = dir.join("exit.json.new");
    fs::write(&temporary, serde_json::to_vec(exit).map_err(io::Error::other)?)?;
    fs::rename(temporary, dir.join(EXIT))
}
