//! Ending a cluster: every process by cgroup, then cgroups, then files. Works whatever state the cluster is in.
//!
//! Network namespaces, mounts and BPF programs belong to processes and go with them; nothing else was ever made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cgroup,
    paths::{self, Paths},
    spec,
};

/// What keeps a cluster from being removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name.
    #[error(transparent)]
    Name(#[from] spec::Error),
    /// Not root.
    #[error("removing a cluster ends its processes: run it as root (sudo)")]
    NotRoot,
    /// Its processes or cgroups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Its files.
    #[error("removing {0}")]
    Remove(PathBuf, #[source] io::Error),
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Removes every trace of the cluster; true if there was any.
pub fn stop(name: &str) -> Result<bool, Error> {
    spec::validate_name(name)?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let (paths, group) = (Paths::new(name), paths::cgroup(name));
    let found = paths.files.exists() || paths.runtime.exists() || cgroup::exists(&group)?;
    // First what says that this is a whole cluster, so that a removal that is cut short is seen as such.
    remove_file(&paths.spec())?;
    // The supervisor first: it would start the others again.
    cgroup::end(&group.join("supervisor"), PATIENCE)?;
    cgroup::end(&group, PATIENCE)?;
    cgroup::remove(&group)?;
    cgroup::remove_if_empty(Path::new("weft"))?;
    for directory in [&paths.runtime, &paths.files] {
        remove_tree(directory)?;
    }
    for parent in ["/run/weft", "/var/lib/weft/clusters", "/var/lib/weft"] {
        // Other clusters may live there.
        _ = fs::remove_dir(parent);
    }
    Ok(found)
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Remove(path.to_path_buf(), error)),
        _ => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Remove(path.to_path_buf(), error)),
        _ => Ok(()),
    }
}
