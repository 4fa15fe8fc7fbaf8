//! The few things about cgroups that libcontainer leaves to its caller.
//!
//! libcontainer makes the cgroup v1 groups, applies the limits and removes them. Here: whether the kernel killed a process
//! for want of memory (read before the group goes), and the group in the unified hierarchy of a hybrid machine, where
//! libcontainer leaves the process in the root although programs of the node attach below it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::devices;

/// Mount point of the hierarchy that has `controller`; `None` asks for the unified one.
fn mount_point(controller: Option<&str>) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| mount_of(line, controller))
}

/// The mount point in one line of mountinfo if it is the hierarchy asked for.
fn mount_of(line: &str, controller: Option<&str>) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let mut kind = after.split(' ');
    let fits = match (kind.next()?, controller) {
        ("cgroup", Some(name)) => kind.nth(1)?.split(',').any(|option| option == name),
        ("cgroup2", None) => true,
        _ => false,
    };
    fits.then(|| before.split(' ').nth(4).map(PathBuf::from))?
}

/// Whether the kernel has killed a process of this group for want of memory.
pub(crate) fn oom_killed(cgroup: &str) -> bool {
    let relative = cgroup.trim_start_matches('/');
    let v1 = mount_point(Some("memory")).map(|mount| mount.join(relative).join("memory.oom_control"));
    let v2 = mount_point(None).map(|mount| mount.join(relative).join("memory.events"));
    [v1, v2].into_iter().flatten().filter_map(|file| fs::read_to_string(file).ok()).any(|text| oom_count(&text) > 0)
}

/// The `oom_kill` line of `memory.oom_control` (v1) or `memory.events` (v2).
fn oom_count(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

/// Puts the process into its own group of the unified hierarchy, if there is one, and its devices under the filter.
///
/// On a hybrid machine both are a second line: programs of the node attach there, and v1's devices controller is in force.
/// Where the unified hierarchy is the only one, libcontainer has made the group, and no container starts without the filter.
pub(crate) fn join_unified(cgroup: &str, pid: i32, device_filter: bool) -> io::Result<()> {
    let hybrid = mount_point(Some("memory")).is_some();
    let Some(group) = unified_group(cgroup) else { return Ok(()) };
    if hybrid {
        let joined = fs::create_dir_all(&group).and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string()));
        if joined.is_err() {
            return Ok(());
        }
    }
    match device_filter.then(|| devices::filter(&group)) {
        Some(Err(error)) if !hybrid => Err(io::Error::new(error.kind(), format!("filter devices: {error}"))),
        _ => Ok(()),
    }
}

/// Removes the group that [`join_unified`] made.
pub(crate) fn leave_unified(cgroup: &str) {
    if let Some(group) = unified_group(cgroup) {
        // The pod's directory above it is the node's to remove.
        let _ = fs::remove_dir(group);
    }
}

fn unified_group(cgroup: &str) -> Option<PathBuf> {
    mount_point(None).map(|mount| mount.join(Path::new(cgroup.trim_start_matches('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, controller: Option<&str>, expected: Option<&str>) {
        assert_eq!(mount_of(line, controller), expected.map(PathBuf::from));
    }

    #[test]
    fn finds_the_hierarchy() {
        let memory = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        check(memory, Some("memory"), Some("/sys/fs/cgroup/memory"));
        check(memory, Some("cpu"), None);
        check(memory, None, None);
        check(unified, None, Some("/sys/fs/cgroup/unified"));
        check("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", None, None);
    }

    #[test]
    fn counts_kills_in_both_formats() {
        assert_eq!(oom_count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_count("low 0\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_count(""), 0);
    }
}
