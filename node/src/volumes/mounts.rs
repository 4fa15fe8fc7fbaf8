//! Where a container mounts its pod's volumes and the files that every container gets.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::Volumes;
use crate::env::expand::expand;
use crate::runtime::Mount;

/// A container's mounts and the file that its termination message is read from.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) termination_log: PathBuf,
}

/// Prepares the mounts of one run of a container. `pod_dir` has the pod's `etc` files; `env` is for `subPathExpr`.
pub(crate) fn mounts(
    container: &Container,
    attempt: u32,
    pod_dir: &Path,
    volumes: &Volumes,
    env: &[(String, String)],
) -> io::Result<Prepared> {
    let own = container.volume_mounts.as_deref().unwrap_or_default();
    let mut mounts = Vec::with_capacity(own.len() + 4);
    for mount in own {
        let (path, writable) = volumes
            .get(&mount.name)
            .ok_or_else(|| io::Error::other(format!("volume \"{}\" is not defined", mount.name)))?;
        mounts.push(Mount {
            host_path: sub_path(path, mount, env, *writable)?,
            container_path: PathBuf::from(&mount.mount_path),
            read_only: !writable || mount.read_only == Some(true),
        });
    }
    let taken = |path: &str| own.iter().any(|mount| mount.mount_path.trim_end_matches('/') == path);
    for (file, path) in [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")] {
        if !taken(path) {
            mounts.push(Mount {
                host_path: pod_dir.join("etc").join(file),
                container_path: path.into(),
                read_only: false,
            });
        }
    }
    let termination_log = pod_dir.join("containers").join(&container.name).join(format!("{attempt}.termination"));
    fs::create_dir_all(termination_log.parent().unwrap_or(pod_dir))?;
    fs::write(&termination_log, "")?;
    fs::set_permissions(&termination_log, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let path = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned());
    mounts.push(Mount { host_path: termination_log.clone(), container_path: path.into(), read_only: false });
    // Outer directories before what is mounted inside them.
    mounts.sort_by_key(|mount| mount.container_path.components().count());
    Ok(Prepared { mounts, termination_log })
}

/// The volume, or what `subPath` names in it. It must not lead out of the volume, not even by a link that a container has
/// made there.
fn sub_path(volume: &Path, mount: &VolumeMount, env: &[(String, String)], writable: bool) -> io::Result<PathBuf> {
    let expression = mount.sub_path_expr.as_ref().filter(|path| !path.is_empty()).map(|path| expand(path, env));
    let Some(sub) = expression.or_else(|| mount.sub_path.clone()).filter(|path| !path.is_empty()) else {
        return Ok(volume.to_owned());
    };
    let refused = || io::Error::other(format!("subPath \"{sub}\" leads out of volume \"{}\"", mount.name));
    if !Path::new(&sub).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(refused());
    }
    let root = volume.canonicalize()?;
    let mut real = root.clone();
    // Part by part, each judged before the next is made: nothing is made behind a link that leads out.
    for part in Path::new(&sub).components().filter(|part| matches!(part, Component::Normal(_))) {
        let next = real.join(part);
        match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && writable => fs::create_dir(&next)?,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        real = next.canonicalize()?;
        if !real.starts_with(&root) {
            return Err(refused());
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mount: serde_json::Value, expected: Option<(&str, bool)>) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().canonicalize().expect("path");
        fs::create_dir_all(root.join("v/known")).expect("volume");
        std::os::unix::fs::symlink("/etc", root.join("v/out")).expect("link");
        let mut mount = mount;
        mount["name"] = "v".into();
        mount["mountPath"] = "/data".into();
        let container: Container =
            serde_json::from_value(serde_json::json!({"name": "c", "volumeMounts": [mount]})).expect("a container");
        let volumes = Volumes::from([("v".to_owned(), (root.join("v"), true))]);
        let env = [("WHO".to_owned(), "me".to_owned())];
        let prepared = mounts(&container, 0, &root.join("pod"), &volumes, &env);
        let found = prepared
            .ok()
            .and_then(|prepared| prepared.mounts.into_iter().find(|one| one.container_path == Path::new("/data")));
        assert_eq!(
            found.map(|one| (one.host_path, one.read_only)),
            expected.map(|(path, read_only)| (root.join(path), read_only))
        );
    }

    #[test]
    fn volumes_and_parts_of_them() {
        check(serde_json::json!({}), Some(("v", false)));
        check(serde_json::json!({"readOnly": true}), Some(("v", true)));
        check(serde_json::json!({"subPath": "known"}), Some(("v/known", false)));
        check(serde_json::json!({"subPath": "new/deep"}), Some(("v/new/deep", false)));
        check(serde_json::json!({"subPathExpr": "of-$(WHO)"}), Some(("v/of-me", false)));
        check(serde_json::json!({"subPath": "../pod"}), None);
        check(serde_json::json!({"subPath": "out"}), None);
        check(serde_json::json!({"subPath": "out/weft-sub-path-test"}), None);
        assert!(!Path::new("/etc/weft-sub-path-test").exists(), "nothing is made outside of the volume");
    }

    #[test]
    fn every_container_gets_its_files() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c"})).expect("a container");
        let prepared = mounts(&container, 2, dir.path(), &Volumes::new(), &[]).expect("mounts");
        let mut paths: Vec<String> =
            prepared.mounts.iter().map(|one| one.container_path.display().to_string()).collect();
        paths.sort();
        assert_eq!(paths, ["/dev/termination-log", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]);
        assert_eq!(prepared.termination_log, dir.path().join("containers/c/2.termination"));
    }
}
