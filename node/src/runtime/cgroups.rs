//! The pods' part of the cgroup tree: `<root>/pods/pod<uid>/<container>` in every mounted hierarchy.
//!
//! libcontainer makes and limits the groups; here they are named, and removed when a pod goes or a helper was lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a busy group is tried again, and after how long.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The group of a container, from the root of each hierarchy.
pub(super) fn container_path(root: &str, pod_uid: &str, container: &str) -> String {
    format!("{}/{container}", pod_path(root, pod_uid))
}

/// The group of a pod.
pub(super) fn pod_path(root: &str, pod_uid: &str) -> String {
    format!("/{}/pods/pod{pod_uid}", root.trim_matches('/'))
}

/// Kills what is left in the group and below, and removes it from every hierarchy. Best effort: a group that does not go
/// is empty and costs nothing, and the next removal of the pod tries again. Blocking, up to half a second for each group
/// that is busy.
pub(super) fn remove(path: &str) {
    for group in mount_points().into_iter().map(|mount| mount.join(path.trim_start_matches('/'))) {
        if group.is_dir() {
            remove_group(&group);
        }
    }
}

fn remove_group(group: &Path) {
    let children = fs::read_dir(group).into_iter().flatten().filter_map(Result::ok);
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_group(&child.path());
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    // A killed process leaves its group a moment after the signal.
    for _ in 0..TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// Every hierarchy, v1 and unified, as this process's mount namespace has them.
fn mount_points() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(mount_point).collect()
}

fn mount_point(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let kind = after.split(' ').next()?;
    (kind == "cgroup" || kind == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(container_path("/weft/c/node-1", "u", "i"), "/weft/c/node-1/pods/podu/i");
        assert_eq!(pod_path("weft/", "u"), "/weft/pods/podu");
    }

    #[test]
    fn hierarchies() {
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(mount_point(v1), Some(PathBuf::from("/sys/fs/cgroup/memory")));
        assert_eq!(mount_point("1 2 3:4 / / rw - ext4 /dev/vda rw"), None);
    }
}
