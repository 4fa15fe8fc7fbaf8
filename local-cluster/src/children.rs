//! Keeping child processes running: what the supervisor and node-init have in common.
//!
//! Both are single-threaded loops: reap what has ended, start what is due, sleep until a signal or the next due time.
#![expect(unsafe_code, reason = "pre_exec unblocks the child's signals between fork and exec")]

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

use crate::{backoff::Backoff, handoff};

/// A child that is started again when it ends.
#[derive(Debug)]
pub struct Child {
    /// For the log.
    pub name: String,
    state: State,
    backoff: Backoff,
}

#[derive(Debug)]
enum State {
    Running {
        pid: i32,
        since: Instant,
    },
    /// Started by a supervisor that is gone: init's child, not ours, so its end is read from its descriptor.
    Adopted {
        pid: i32,
        since: Instant,
        process: OwnedFd,
    },
    Waiting {
        until: Instant,
    },
}

impl Child {
    /// A child that is due at once.
    pub fn new(name: &str) -> Child {
        Child { name: name.to_owned(), state: State::Waiting { until: Instant::now() }, backoff: Backoff::default() }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid, .. } | State::Adopted { pid, .. } => Some(pid),
            State::Waiting { .. } => None,
        }
    }

    /// Whether it should be started now.
    pub fn due(&self) -> bool {
        self.wake().is_some_and(|until| until <= Instant::now())
    }

    /// When it should be started.
    pub fn wake(&self) -> Option<Instant> {
        match self.state {
            State::Running { .. } | State::Adopted { .. } => None,
            State::Waiting { until } => Some(until),
        }
    }

    /// Takes over a process that runs already.
    pub fn adopt(&mut self, pid: i32) -> io::Result<()> {
        let process = handoff::process(pid)?;
        tracing::info!(child = self.name, pid, "taken over");
        self.state = State::Adopted { pid, since: Instant::now(), process };
        Ok(())
    }

    /// Readable once an adopted process has ended.
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Adopted { process, .. } => Some(process.as_fd()),
            _ => None,
        }
    }

    /// The end of an adopted process, as `reap` would tell it; how it ended only its parent knows.
    pub fn vanished(&self) -> Option<WaitStatus> {
        let State::Adopted { pid, process, .. } = &self.state else { return None };
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        ended.then(|| WaitStatus::Signaled(nix::unistd::Pid::from_raw(*pid), Signal::SIGKILL, false))
    }

    /// Notes the result of a start.
    pub fn started<E: std::fmt::Display>(&mut self, start: Result<i32, E>) {
        match start {
            Ok(pid) => {
                tracing::info!(child = self.name, pid, "started");
                self.state = State::Running { pid, since: Instant::now() };
            }
            Err(error) => {
                tracing::error!(child = self.name, %error, "does not start");
                self.wait(Duration::ZERO);
            }
        }
    }

    /// Notes an end; true if it was this child's.
    pub fn ended(&mut self, end: &WaitStatus) -> bool {
        let (State::Running { pid, since } | State::Adopted { pid, since, .. }) = self.state else { return false };
        if end.pid().map(nix::unistd::Pid::as_raw) != Some(pid) {
            return false;
        }
        tracing::warn!(child = self.name, ?end, "ended");
        self.wait(since.elapsed());
        true
    }

    /// Looks again after a moment without counting it as a failure.
    pub fn postpone(&mut self) {
        self.state = State::Waiting { until: Instant::now() + Duration::from_millis(500) };
    }

    fn wait(&mut self, lived: Duration) {
        self.state = State::Waiting { until: Instant::now() + self.backoff.after(lived) };
    }
}

/// What has ended since the last call, orphans that init inherits included.
pub fn reap() -> Vec<WaitStatus> {
    let mut ends = Vec::new();
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
        ends.push(status);
    }
    ends
}

/// SIGCHLD, SIGTERM and SIGINT, taken one by one instead of interrupting.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals for this thread. Children inherit that; `this_program` undoes it for them.
    pub fn block() -> io::Result<Signals> {
        let set = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT]);
        set.thread_set_mask()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Sleeps until a signal or `until`; true if this process was asked to end.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        self.wait_also(until, &[])
    }

    /// The same, and until one of `others` is readable.
    pub fn wait_also(&self, until: Option<Instant>, others: &[BorrowedFd<'_>]) -> io::Result<bool> {
        let timeout = match until {
            // One more millisecond: poll rounds down, and would wake too early over and over.
            Some(until) => until.saturating_duration_since(Instant::now()).as_millis() + 1,
            None => u128::from(u16::MAX),
        };
        let timeout = PollTimeout::try_from(timeout.min(60_000)).unwrap_or(PollTimeout::MAX);
        let own = std::iter::once(self.0.as_fd());
        let mut fds: Vec<_> = own.chain(others.iter().copied()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut asked_to_end = false;
        while let Some(signal) = self.0.read_signal()? {
            asked_to_end |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        Ok(asked_to_end)
    }
}

/// This program with other arguments and no signal blocked, its output appended to `log`.
pub fn this_program(args: &[OsString], log: &Path) -> io::Result<Command> {
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("weft").args(args).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // SAFETY: between fork and exec this calls sigprocmask(2) alone and allocates nothing.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) };
    Ok(command)
}

/// Starts a command that `reap` will wait for.
pub fn spawn(mut command: Command) -> io::Result<i32> {
    let child = command.spawn()?;
    Ok(i32::try_from(child.id()).expect("a pid is positive and fits"))
}
