//! A pod's volumes as directories of the node, and where its containers mount them.
//!
//! Volumes with content from the API (configMap, secret, downwardAPI, projected) are made anew at every sync: what changed
//! there changes in the containers. The others are made once. Sizes of memory-backed volumes are the kernel's to enforce.

pub(crate) mod atomic;
mod content;
mod mounts;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};

pub(crate) use content::Tokens;
pub(crate) use mounts::mounts;

use crate::context::Node;
use crate::runtime::embedded::{mount_tmpfs, unmount};

/// Why a pod has not got its volumes; the text is what the FailedMount event shows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// One volume could not be set up.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    SetUp {
        volume: String,
        #[source]
        source: Cause,
    },
}

/// Why one volume could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// What it takes its content from is not there, or has no such key.
    #[error(transparent)]
    Reference(#[from] crate::env::Error),
    /// A key that the volume's items name is missing.
    #[error("{kind} references non-existent {kind_of_key} key: {key}")]
    NoKey { kind: &'static str, kind_of_key: &'static str, key: String },
    /// The API server did not answer, or refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A hostPath that is not what its type says.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    HostPath { path: String, wanted: &'static str },
    /// A kind of volume that this node does not know.
    #[error("no volume plugin matched")]
    Unsupported,
}

/// Where a pod's volumes are, by name, and whether containers may write to them at all.
pub(crate) type Volumes = BTreeMap<String, (PathBuf, bool)>;

/// Makes all volumes of the pod, or brings them up to date.
pub(crate) async fn set_up(node: &Node, pod: &Pod, ips: &[IpAddr], tokens: &mut Tokens) -> Result<Volumes, Error> {
    let dir = node.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default()).join("volumes");
    let group = fs_group(pod);
    let mut volumes = Volumes::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let made = one(node, pod, volume, &dir, ips, tokens, group).await;
        let made = made.map_err(|source| Error::SetUp { volume: volume.name.clone(), source })?;
        volumes.insert(volume.name.clone(), made);
    }
    Ok(volumes)
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

async fn one(
    node: &Node,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
    ips: &[IpAddr],
    tokens: &mut Tokens,
    group: Option<u32>,
) -> Result<(PathBuf, bool), Cause> {
    if let Some(source) = &volume.empty_dir {
        let path = dir.join("kubernetes.io~empty-dir").join(&volume.name);
        empty_dir(source, &path, group)?;
        return Ok((path, true));
    }
    if let Some(source) = &volume.host_path {
        host_path(source)?;
        return Ok((PathBuf::from(&source.path), true));
    }
    let Some(kind) = content::kind(volume) else { return Err(Cause::Unsupported) };
    let payload = content::payload(node, pod, volume, ips, tokens).await?;
    let path = dir.join(kind).join(&volume.name);
    atomic::write(&path, &payload, group)?;
    Ok((path, false))
}

fn empty_dir(source: &EmptyDirVolumeSource, path: &Path, group: Option<u32>) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if source.medium.as_deref() == Some("Memory") {
        let limit: Option<objects::Quantity> = source.size_limit.as_ref().and_then(|limit| limit.0.parse().ok());
        mount_tmpfs(path, limit.map_or(0, |limit| limit.value().unsigned_abs()), 0o777)?;
    }
    fs::create_dir_all(path)?;
    chown(path, None, group)?;
    // New files take the directory's group only with the set-group-id bit.
    fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }))
}

fn host_path(source: &HostPathVolumeSource) -> Result<(), Cause> {
    let path = Path::new(&source.path);
    match source.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" if !path.exists() => fs::create_dir_all(path)?,
        "FileOrCreate" if !path.exists() => {
            fs::File::create(path)?;
        }
        _ => {}
    }
    let (fits, wanted) = match source.type_.as_deref().unwrap_or_default() {
        "Directory" | "DirectoryOrCreate" => (path.is_dir(), "directory"),
        "File" | "FileOrCreate" => (path.is_file(), "file"),
        _ => (path.exists(), "file or directory that exists"),
    };
    if fits { Ok(()) } else { Err(Cause::HostPath { path: source.path.clone(), wanted }) }
}

/// Removes everything of a pod that is gone: its mounts first, so that nothing behind them is removed.
pub(crate) fn tear_down(pod_dir: &Path) -> io::Result<()> {
    let memory = pod_dir.join("volumes/kubernetes.io~empty-dir");
    for entry in fs::read_dir(memory).into_iter().flatten().filter_map(Result::ok) {
        unmount(&entry.path())?;
    }
    match fs::remove_dir_all(pod_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
