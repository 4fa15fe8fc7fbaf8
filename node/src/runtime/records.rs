//! What the embedded runtime keeps on disk: a directory with one record for each sandbox and container.
//!
//! A node that was restarted, or a machine that lost its power, is put together again from these files and from what is
//! really there (pinned namespaces, helpers that hold their locks).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::helper::{self, ExitFile};
use super::{ContainerConfig, Error, Exit, PodId, SandboxConfig, overlay};

/// `sandboxes/<id>/sandbox.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) id: String,
    pub(super) config: SandboxConfig,
    pub(super) created_at: Timestamp,
    /// The pinned network namespace; `None` with host networking.
    pub(super) netns: Option<PathBuf>,
    /// The network configuration list that ADD was called with.
    pub(super) conflist: Option<Value>,
    /// What ADD returned.
    pub(super) result: Option<Value>,
    pub(super) ips: Vec<IpAddr>,
    /// Set up to the end and not stopped.
    pub(super) ready: bool,
    /// Nothing of the network is left.
    pub(super) released: bool,
}

/// `containers/<id>/container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: String,
    pub(super) sandbox: String,
    pub(super) pod: PodId,
    pub(super) config: ContainerConfig,
    pub(super) image_id: String,
    pub(super) stop_signal: i32,
    pub(super) cgroup: String,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
}

/// Replaces a file by one that holds `value`, by rename.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let new = path.with_extension("new");
    let bytes = serde_json::to_vec(value).expect("records have string keys only");
    fs::write(&new, bytes).map_err(Error::io("write", &new))?;
    fs::rename(&new, path).map_err(Error::io("replace", path))
}

/// The records below `dir`, one directory each. One that cannot be read was never finished and is removed.
pub(super) fn read_all<T: DeserializeOwned>(dir: &Path, file: &str) -> Result<Vec<T>, Error> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))?.filter_map(Result::ok) {
        let path = entry.path();
        let record = fs::read(path.join(file)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match record {
            Some(record) => records.push(record),
            None => remove_dir(&path)?,
        }
    }
    Ok(records)
}

/// Removes a record's directory with everything that is mounted in it.
pub(super) fn remove_dir(dir: &Path) -> Result<(), Error> {
    for mounted in ["rootfs", "shm", "uts", "ipc"] {
        overlay::unmount(&dir.join(mounted)).map_err(Error::io("unmount", dir))?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// What became of a container of an earlier process; `None` while it runs or before it was started.
pub(super) fn exit_of(dir: &Path, started: bool) -> Option<Exit> {
    let runs = || helper::is_alive(dir);
    let written = helper::read_exit(dir).map(exit);
    if written.is_some() || !started || runs() { written } else { Some(ended(dir)) }
}

/// How a container ended whose helper is gone: as it wrote down, or lost.
pub(super) fn ended(dir: &Path) -> Exit {
    if let Some(file) = helper::read_exit(dir) {
        return exit(file);
    }
    let lost = ExitFile {
        exit_code: 255,
        signal: 0,
        oom_killed: false,
        finished_at: Timestamp::now(),
        reason: Some("Unknown".to_owned()),
        message: String::new(),
    };
    // Not written is found again the same way.
    let _ = helper::write_exit(dir, &lost);
    exit(lost)
}

fn exit(file: ExitFile) -> Exit {
    let reason = file.reason.unwrap_or_else(|| {
        let reason = match (file.oom_killed, file.exit_code) {
            (_, 0) => "Completed",
            (true, _) => "OOMKilled",
            (false, _) => "Error",
        };
        reason.to_owned()
    });
    Exit { code: file.exit_code, signal: file.signal, reason, message: file.message, at: file.finished_at }
}
