//! Network namespaces by descriptor: made, found and entered without a name or a mount on the host.
//!
//! A namespace lives as long as a descriptor, a process or a mount holds it. `setns` is per thread, so `run` takes a
//! fresh thread for it: never a tokio worker, whose next task would find itself in another network.
#![expect(unsafe_code, reason = "pre_exec enters the namespace between fork and exec")]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, held open.
#[derive(Debug)]
pub struct Netns(OwnedFd);

/// What failed on a namespace.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// unshare(CLONE_NEWNET).
    #[error("making a network namespace (root with CAP_SYS_ADMIN is needed)")]
    Make(#[source] io::Error),
    /// Opening `/proc/<pid>/ns/net`.
    #[error("opening the network namespace of process {pid}")]
    Open {
        /// Whose namespace.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
    /// setns.
    #[error("entering a network namespace")]
    Enter(#[source] io::Error),
}

impl Netns {
    /// A new, empty namespace (lo is down).
    pub fn create() -> Result<Netns, Error> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Make(errno.into()))?;
            let file = File::open("/proc/thread-self/ns/net").map_err(Error::Make)?;
            Ok(Netns(file.into()))
        })
    }

    /// The namespace that a process is in.
    pub fn of_process(pid: i32) -> Result<Netns, Error> {
        let file = File::open(format!("/proc/{pid}/ns/net")).map_err(|source| Error::Open { pid, source })?;
        Ok(Netns(file.into()))
    }

    /// The namespace that an open descriptor holds.
    pub fn of_descriptor(fd: OwnedFd) -> Netns {
        Netns(fd)
    }

    /// Runs `work` on a fresh thread inside the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_a_thread(|| {
            setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Enter(errno.into()))?;
            Ok(work())
        })
    }

    /// Moves the calling thread for good: for a process that is about to become something else.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Starts `command` inside the namespace.
    pub fn pre_exec(&self, command: &mut Command) -> io::Result<()> {
        let fd = self.0.try_clone()?;
        // SAFETY: between fork and exec this calls setns(2) alone and allocates nothing.
        unsafe { command.pre_exec(move || Ok(setns(&fd, CloneFlags::CLONE_NEWNET)?)) };
        Ok(())
    }

    /// A second holder of the same namespace.
    pub fn try_clone(&self) -> io::Result<Netns> {
        Ok(Netns(self.0.try_clone()?))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
