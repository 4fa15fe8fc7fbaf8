//! Cgroups of a cluster in every mounted hierarchy: how the cluster's processes are grouped, found and ended.
//!
//! `weft/<cluster>/…` is made in each cgroup v1 hierarchy and in the unified one, whichever are mounted. Processes sit
//! in leaves only (cgroup v2 asks for it). Nothing is mounted and nothing above `weft/` is changed, except that v2
//! controllers are handed down where the machine permits it.

#![expect(unsafe_code, reason = "pre_exec moves the child between fork and exec")]

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// One mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// cgroup v2.
    pub unified: bool,
}

/// What failed on a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/proc/self/mountinfo`.
    #[error("reading the mounted cgroup hierarchies")]
    Mounts(#[source] io::Error),
    /// No hierarchy at all.
    #[error("no cgroup hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")]
    None,
    /// mkdir.
    #[error("making cgroup {path}")]
    Make {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// rmdir, after every process was killed.
    #[error("removing cgroup {path}")]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Processes that do not die.
    #[error("processes {0:?} did not end within {1:?} of SIGKILL")]
    Alive(BTreeSet<i32>, Duration),
}

/// The mounted hierarchies, each once.
pub fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let found = parse_mountinfo(&fs::read_to_string("/proc/self/mountinfo").map_err(Error::Mounts)?);
    if found.is_empty() { Err(Error::None) } else { Ok(found) }
}

fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let unified = match right.split(' ').next() {
            Some("cgroup") => false,
            Some("cgroup2") => true,
            _ => continue,
        };
        let fields: Vec<&str> = left.split(' ').collect();
        let [_, _, device, _, mount, options, ..] = fields[..] else { continue };
        let writable = options.split(',').any(|option| option == "rw");
        if writable && seen.insert(device.to_owned()) {
            found.push(Hierarchy { mount: PathBuf::from(mount), unified });
        }
    }
    found
}

/// Makes the cgroup in every hierarchy.
pub fn make(cgroup: &Path) -> Result<(), Error> {
    hierarchies()?.iter().try_for_each(|hierarchy| {
        let mut tries = 0;
        loop {
            match make_in(hierarchy, cgroup) {
                // Another cluster's end has just removed the empty `weft` above: again from the top.
                Err(Error::Make { source, .. }) if source.kind() == io::ErrorKind::NotFound && tries < 100 => {
                    tries += 1;
                }
                result => return result,
            }
        }
    })
}

fn make_in(hierarchy: &Hierarchy, cgroup: &Path) -> Result<(), Error> {
    let mut path = hierarchy.mount.clone();
    for part in cgroup {
        if hierarchy.unified {
            hand_down_controllers(&path);
        }
        let parent = path.clone();
        path.push(part);
        match fs::create_dir(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(Error::Make { path, source }),
            _ => copy_cpuset(&parent, &path),
        }
    }
    Ok(())
}

/// On v2, children can only limit what their parent hands down. The root's own settings are the machine's: what it
/// refuses stays away.
fn hand_down_controllers(path: &Path) {
    let Ok(controllers) = fs::read_to_string(path.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        _ = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// On v1, a new cpuset is empty and takes no process until it names cpus and memory nodes.
fn copy_cpuset(parent: &Path, child: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let empty = fs::read_to_string(child.join(file)).is_ok_and(|text| text.trim().is_empty());
        if empty && let Ok(value) = fs::read(parent.join(file)) {
            _ = fs::write(child.join(file), value);
        }
    }
}

/// Descriptors by which a process moves itself into a cgroup of every hierarchy.
#[derive(Debug)]
pub struct Door(Vec<fs::File>);

impl Door {
    /// Opens the cgroup's `cgroup.procs` files. They close on exec.
    pub fn open(cgroup: &Path) -> Result<Door, Error> {
        let open = |hierarchy: Hierarchy| {
            let path = hierarchy.mount.join(cgroup).join("cgroup.procs");
            fs::OpenOptions::new().write(true).open(&path).map_err(|source| Error::Make { path, source })
        };
        Ok(Door(hierarchies()?.into_iter().map(open).collect::<Result<_, _>>()?))
    }

    /// Moves the calling process. Does nothing but write(2): fit for between fork and exec.
    pub fn enter(&self) -> io::Result<()> {
        use io::Write as _;
        self.0.iter().try_for_each(|mut file| file.write_all(b"0\n"))
    }

    /// Lets `command` begin inside.
    pub fn pre_exec(self, command: &mut Command) {
        // SAFETY: between fork and exec this calls write(2) alone and allocates nothing.
        unsafe { command.pre_exec(move || self.enter()) };
    }
}

/// Every process of the cgroup and of those below it, in any hierarchy.
pub fn processes(cgroup: &Path) -> Result<BTreeSet<i32>, Error> {
    let mut pids = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for directory in tree(&hierarchy.mount.join(cgroup)) {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            // 0 is a process of a pid namespace that this one cannot see.
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
    }
    Ok(pids)
}

/// The directory and all below it, deepest first; empty if it is not there.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return all };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(tree(&entry.path()));
        }
    }
    all.push(directory.to_path_buf());
    all
}

/// Kills every process of the cgroup and waits until none is left.
pub fn end(cgroup: &Path, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        let pids = processes(cgroup)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in &pids {
            // It may be gone already: then there is nothing to do.
            _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if Instant::now() > deadline {
            return Err(Error::Alive(pids, patience));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Removes the cgroup and all below it from every hierarchy. Its processes must have ended.
pub fn remove(cgroup: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for hierarchy in hierarchies()? {
        for path in tree(&hierarchy.mount.join(cgroup)) {
            while let Err(source) = fs::remove_dir(&path) {
                // EBUSY: the kernel is still taking the last process apart.
                if source.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(Error::Remove { path, source });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Ok(())
}

/// Removes an empty cgroup where it is empty; others may still use it.
pub fn remove_if_empty(cgroup: &Path) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        _ = fs::remove_dir(hierarchy.mount.join(cgroup));
    }
    Ok(())
}

/// Whether any hierarchy still has the cgroup.
pub fn exists(cgroup: &Path) -> Result<bool, Error> {
    Ok(hierarchies()?.iter().any(|hierarchy| hierarchy.mount.join(cgroup).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, expected: &[(&str, bool)]) {
        let found = parse_mountinfo(mountinfo);
        let got: Vec<_> = found.iter().map(|h| (h.mount.to_str().expect("utf-8"), h.unified)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn mounted_hierarchies() {
        check("41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 none rw", &[("/sys/fs/cgroup", true)]);
        check("32 31 0:29 / /cg/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu", &[("/cg/cpu", false)]);
        check("32 31 0:29 / /cg/cpu ro,relatime - cgroup cgroup rw,cpu", &[]);
        check("22 27 0:21 / /proc rw,relatime - proc proc rw", &[]);
        let twice = "32 31 0:29 / /a rw - cgroup c rw,cpu\n33 31 0:29 / /b rw - cgroup c rw,cpu\n";
        check(twice, &[("/a", false)]);
    }
}
