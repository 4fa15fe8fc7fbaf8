//! Starting a node: its namespaces, its place on the fabric, and `weft node-init` as their pid 1.
#![expect(unsafe_code, reason = "clone(2) with namespaces has no safe wrapper")]

use std::{
    ffi::{CString, OsString},
    fs, io,
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
};

use nix::{
    sched::{CloneFlags, clone},
    unistd::{dup2_stderr, dup2_stdout, execve, setsid},
};

use crate::{
    cgroup, commands, fabric,
    family::Station,
    netns,
    netns::Netns,
    paths::{self, Paths},
    spec::Spec,
};

/// A node that does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its cgroups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Its namespace.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// Its wire.
    #[error(transparent)]
    Fabric(#[from] fabric::Error),
    /// Its log.
    #[error("opening the log of {0}")]
    Log(String, #[source] io::Error),
    /// Its first process.
    #[error("cloning the first process of {0}")]
    Clone(String, #[source] nix::Error),
}

/// A node that runs.
#[derive(Debug)]
pub struct Started {
    /// Its first process, as the host numbers it.
    pub pid: i32,
    /// Its network.
    pub netns: Netns,
}

/// Starts a node as if it were powered on: whatever ran of it before is ended, its network and mounts are new.
pub fn start(spec: &Spec, paths: &Paths, fabric: &Netns, node: (&str, u8)) -> Result<Started, Error> {
    let (name, number) = node;
    let group = paths::cgroup(&spec.name).join(name);
    cgroup::end(&group, std::time::Duration::from_secs(10))?;
    cgroup::remove(&group)?;
    cgroup::make(&group.join("system"))?;
    cgroup::make(&group.join("pods"))?;
    let netns = Netns::create()?;
    fabric::plug(fabric, name, &netns, Station::Node(number), spec.ip_family)?;
    let log = paths.node(name).join("log").join("init.log");
    let log = fs::OpenOptions::new().create(true).append(true).open(log).map_err(|e| Error::Log(name.to_owned(), e))?;
    let door = cgroup::Door::open(&group.join("system"))?;
    let pid = first_process(&commands::node_init(spec, name), &door, &netns, &log)
        .map_err(|errno| Error::Clone(name.to_owned(), errno))?;
    Ok(Started { pid, netns })
}

/// Clones this process into new pid, mount, uts and ipc namespaces and executes this program again there.
fn first_process(args: &[OsString], door: &cgroup::Door, netns: &Netns, log: &fs::File) -> nix::Result<i32> {
    let word = |word: &OsString| CString::new(word.as_bytes()).expect("our own flags hold no NUL");
    let argv: Vec<CString> = std::iter::once(c"weft".to_owned()).chain(args.iter().map(word)).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let child = || -> isize {
        let ready = door.enter().is_ok()
            && netns.enter().is_ok()
            && setsid().is_ok()
            && dup2_stdout(log.as_fd()).is_ok()
            && dup2_stderr(log.as_fd()).is_ok();
        if ready {
            // Returns only if it fails.
            _ = execve(c"/proc/self/exe", &argv, &env);
        }
        127
    };
    let mut stack = vec![0_u8; 256 * 1024];
    let namespaces =
        CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    // SAFETY: without CLONE_VM the child runs on its own copy of memory, and the supervisor has no second thread that
    // could hold a lock at this moment (`Netns::run` joins the threads that it makes).
    let pid = unsafe { clone(Box::new(child), &mut stack, namespaces, Some(nix::libc::SIGCHLD)) }?;
    Ok(pid.as_raw())
}
