//! Network namespaces of this process: named under a tmpfs that only this thread's mount namespace has, so that nobody
//! else sees them, and all is gone when the process ends, however it ends.
use std::{fs::File, path::PathBuf, process::Command, thread};

use anyhow::{Context as _, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare},
    unistd::Pid,
};

/// Runs on a thread with network and mounts of its own, an empty `/run`, and a BPF file system at `/run/bpf`.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter()?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("new namespaces")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("mounts of our own")?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none).context("a tmpfs")?;
    std::fs::create_dir_all("/run/netns")?;
    std::fs::create_dir_all("/run/bpf")?;
    mount(Some("bpf"), "/run/bpf", Some("bpf"), MsFlags::empty(), none).context("a BPF file system")?;
    ip("link set lo up")
}

/// `ip` in this thread's namespace (or with `-n` in another of ours).
pub(crate) fn ip(arguments: &str) -> anyhow::Result<()> {
    command("ip", arguments)
}

/// A command line without quotes; its error output is the error's.
pub(crate) fn command(program: &str, arguments: &str) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments.split_whitespace()).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes a namespace with loopback up, and without IPv6, whose own chatter would be among what is counted.
pub(crate) fn make(name: &str) -> anyhow::Result<()> {
    ip(&format!("netns add {name}"))?;
    inside(name, || {
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            if std::path::Path::new(&path).exists() {
                std::fs::write(path, "1")?;
            }
        }
        Ok(())
    })?;
    ip(&format!("-n {name} link set lo up"))
}

/// Makes a namespace as container runtimes hand them to plugins: nothing is done to it. Without a process for it, since some
/// want a thousand.
pub(crate) fn bare(name: &str) -> anyhow::Result<PathBuf> {
    let at = path(name);
    File::create(&at).with_context(|| at.display().to_string())?;
    let place = at.clone();
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("a new namespace")?;
        let (own, none): (_, Option<&str>) = ("/proc/thread-self/ns/net", None);
        mount(Some(own), &place, none, MsFlags::MS_BIND, none).context("a name for a namespace")
    });
    join(thread)?;
    Ok(at)
}

/// Where it can be opened.
fn path(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Brings this thread into a namespace's network, for good.
pub(crate) fn enter_network(name: &str) -> anyhow::Result<()> {
    let file = File::open(path(name)).with_context(|| format!("namespace {name}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).context("entering a namespace")
}

/// Runs in a namespace on a thread of its own, on one processor if that is given.
pub(crate) fn within<T: Send + 'static>(
    name: &str,
    processor: Option<usize>,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<thread::JoinHandle<anyhow::Result<T>>> {
    let file = File::open(path(name)).with_context(|| format!("namespace {name}"))?;
    Ok(thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).context("entering a namespace")?;
        if let Some(processor) = processor {
            pin(processor)?;
        }
        work()
    }))
}

/// Runs in a namespace and waits for the result.
pub(crate) fn inside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    join(within(name, None, work)?)
}

/// The result of a thread.
pub(crate) fn join<T>(thread: thread::JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Keeps this thread on one processor.
pub(crate) fn pin(processor: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor).context("a processor's number")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("processor {processor}"))
}
