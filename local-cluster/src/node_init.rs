//! `weft node-init`: pid 1 of a node. Makes the node's own view of the machine, then keeps `weft node` and `weft agent`
//! running and reaps whatever is orphaned in the node. Its death is a power cut: the kernel ends the whole pid namespace.
//!
//! Single-threaded and without a runtime. The supervisor has already put it into the node's namespaces and cgroup and
//! has set up the node's devices.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MsFlags, mount},
    unistd::sethostname,
};

use crate::{
    cgroup, children,
    children::{Child, Signals},
    commands,
    family::Family,
    paths::Paths,
    spec::Spec,
};

/// Flags of `weft node-init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster.
    #[arg(long)]
    name: String,
    /// This node.
    #[arg(long)]
    node: String,
}

/// What keeps a node from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such cluster or node.
    #[error("there is no {node} in {path}")]
    Unknown {
        /// The node.
        node: String,
        /// The cluster's file.
        path: PathBuf,
    },
    /// A mount.
    #[error("mounting {what} at {target}")]
    Mount {
        /// What.
        what: &'static str,
        /// Where.
        target: PathBuf,
        /// Why not.
        source: nix::Error,
    },
    /// A sysctl or a directory.
    #[error("writing {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A system call.
    #[error("{0}")]
    Sys(&'static str, #[source] io::Error),
    /// The hierarchies to put back.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
}

/// Runs until told to end.
pub fn run(args: &Args) -> Result<(), Error> {
    let paths = Paths::new(&args.name);
    let unknown = || Error::Unknown { node: args.node.clone(), path: paths.spec() };
    let spec = fs::read(paths.spec()).ok().and_then(|bytes| serde_json::from_slice::<Spec>(&bytes).ok());
    let spec = spec.ok_or_else(unknown)?;
    let number = (1..=spec.nodes).zip(spec.node_names()).find(|(_, name)| *name == args.node);
    let (number, _) = number.ok_or_else(unknown)?;
    let signals = Signals::block().map_err(|error| Error::Sys("blocking signals", error))?;
    sethostname(&args.node).map_err(|errno| Error::Sys("setting the host name", errno.into()))?;
    mounts()?;
    sysctls(&spec)?;
    let log = paths.node(&args.node).join("log");
    let mut programs = [
        (Child::new("node"), commands::node(&spec, &paths, &args.node, number), log.join("node.log")),
        (Child::new("agent"), commands::agent(&spec, &paths, &args.node), log.join("agent.log")),
    ];
    tend(&signals, &mut programs)?;
    // Whoever is left has a moment to end by itself; the end of pid 1 is SIGKILL to the rest.
    _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

fn tend(signals: &Signals, programs: &mut [(Child, Vec<OsString>, PathBuf)]) -> Result<(), Error> {
    loop {
        for end in children::reap() {
            _ = programs.iter_mut().any(|(child, ..)| child.ended(&end));
        }
        for (child, line, log) in programs.iter_mut() {
            if child.due() {
                child.started(children::this_program(line, log).and_then(children::spawn));
            }
        }
        let next = programs.iter().filter_map(|(child, ..)| child.wake()).min();
        if signals.wait(next).map_err(|error| Error::Sys("waiting for a signal", error))? {
            return Ok(());
        }
    }
}

/// Own /run, /proc, /sys and bpffs; the cgroup hierarchies, which a fresh sysfs hides, are put back.
fn mounts() -> Result<(), Error> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    attach("nothing (making mounts private)", None, "/", None, private)?;
    attach("tmpfs", Some("weft-run"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    attach("proc", Some("proc"), "/proc", Some("proc"), MsFlags::empty())?;
    let hierarchies: Vec<PathBuf> = cgroup::hierarchies()?.into_iter().map(|hierarchy| hierarchy.mount).collect();
    let aside = Path::new("/run/cgroup");
    let root = cgroup_root(&hierarchies);
    if let Some(root) = &root {
        directory(aside)?;
        attach("cgroups", path_str(root), "/run/cgroup", None, MsFlags::MS_BIND | MsFlags::MS_REC)?;
    }
    attach("sysfs", Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty())?;
    if let Some(target) = root.as_deref().and_then(path_str) {
        attach("cgroups", path_str(aside), target, None, MsFlags::MS_MOVE)?;
        _ = fs::remove_dir(aside);
    }
    attach("bpffs", Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty())?;
    for path in ["/run/weft/cni/net.d", "/run/weft/cni/bin", "/run/netns", "/run/lock"] {
        directory(Path::new(path))?;
    }
    Ok(())
}

/// The directory under /sys that holds every hierarchy: `/sys/fs/cgroup`, mounted itself or full of mounts. Hierarchies
/// elsewhere are not hidden.
fn cgroup_root(hierarchies: &[PathBuf]) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    hierarchies.iter().any(|mount| mount.starts_with(root)).then(|| root.to_path_buf())
}

fn path_str(path: &Path) -> Option<&str> {
    path.to_str()
}

fn attach(
    what: &'static str,
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
) -> Result<(), Error> {
    mount(source, target, kind, flags, None::<&str>).map_err(|source| Error::Mount {
        what,
        target: PathBuf::from(target),
        source,
    })
}

fn directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_path_buf(), source })
}

/// A node forwards, and judges sources in the datapath instead of by reverse path.
fn sysctls(spec: &Spec) -> Result<(), Error> {
    let mut settings = vec![
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/eth0/rp_filter", "0"),
    ];
    if spec.ip_family.has(Family::V6) {
        settings.push(("net/ipv6/conf/all/forwarding", "1"));
    }
    for (name, value) in settings {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).map_err(|source| Error::Write { path, source })?;
    }
    Ok(())
}
