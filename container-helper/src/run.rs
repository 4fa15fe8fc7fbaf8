//! One container from its creation to its last log line.
//!
//! create → settle its groups → start → answer the node → loop over its two streams, its end and the node's signals →
//! `exit.json` → remove its cgroups. The node may die and come back in between: it finds the container by its files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdout, mkfifo, pipe2, setsid};

use crate::bundle::{self, CONTROL, Exit, HelperConfig, LOCK, Started};
use crate::cgroups;
use crate::log::{Log, Stream};

/// Why the container could not be run.
type Failure = Box<dyn std::error::Error>;

/// Runs the container in `dir` to its end. Returns the helper's exit code, which nobody needs.
pub(crate) fn run(dir: &Path) -> i32 {
    let Ok(Ok(_lock)) = File::create(dir.join(LOCK)).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock))
    else {
        answer(&Started::Error(format!("{} cannot be locked", dir.join(LOCK).display())));
        return 1;
    };
    // A session of its own: signals for the node's group do not reach it. It fails only if it leads one already.
    let _ = setsid();
    match start(dir) {
        Ok(running) => {
            answer(&Started::Pid(running.init.as_raw()));
            watch(dir, running)
        }
        Err(error) => {
            answer(&Started::Error(with_causes(error.as_ref())));
            1
        }
    }
}

/// A started container and what is held of it.
struct Running {
    config: HelperConfig,
    container: Container,
    init: Pid,
    control: File,
    outputs: [File; 2],
    log: Log,
}

fn start(dir: &Path) -> Result<Running, Failure> {
    let config = bundle::read_config(dir)?;
    let log = Log::open(Path::new(&config.log_path))?;
    let control = open_control(dir)?;
    let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
    let mut container = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(config.state_root.clone())?
        .with_executor(Payload { readers: vec![stdout.as_raw_fd(), stderr.as_raw_fd()] })
        .with_stdout(stdout_end)
        .with_stderr(stderr_end)
        .validate_id()?
        .as_init(dir)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    let init = Pid::from_raw(container.pid().ok_or("the container has no process")?.as_raw());
    let grouped = cgroups::join_unified(&config.cgroup_path, init.as_raw(), config.device_filter);
    // Refused where the value would go down and CAP_SYS_RESOURCE is missing: the container runs without it.
    let _ = std::fs::write(format!("/proc/{init}/oom_score_adj"), config.oom_score_adj.to_string());
    if let Err(error) = grouped.map_err(Failure::from).and_then(|()| container.start().map_err(Failure::from)) {
        let _ = container.delete(true);
        cgroups::leave_unified(&config.cgroup_path);
        return Err(error);
    }
    Ok(Running { config, container, init, control, outputs: [unblocked(stdout)?, unblocked(stderr)?], log })
}

/// The fifo is opened for both directions, so that it never reports an end when the node closes its side.
fn open_control(dir: &Path) -> io::Result<File> {
    let path = dir.join(CONTROL);
    match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    File::options().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

fn unblocked(pipe: OwnedFd) -> io::Result<File> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(File::from(pipe))
}

/// Starts the payload so that it dies with the helper: without one, nobody would log, reap or remove the container, and a
/// probe that was given up would leave its process behind.
#[derive(Clone, Default)]
pub(crate) struct Payload {
    /// The helper's ends of the output pipes, which the payload's process has inherited.
    readers: Vec<RawFd>,
}

impl Payload {
    /// The helper may have died before the kernel was told to end the payload with it: then nobody reads its output.
    fn helper_is_gone(&self) -> bool {
        for reader in &self.readers {
            // Open in this process alone from here on: it is a copy of the helper's table.
            let _ = nix::unistd::close(*reader);
        }
        let stdout = io::stdout();
        let mut polled = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        let found = poll(&mut polled, PollTimeout::ZERO).is_ok();
        !self.readers.is_empty()
            && found
            && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    }
}

impl Executor for Payload {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| ExecutorError::Other(error.to_string()))?;
        if self.helper_is_gone() {
            return Err(ExecutorError::Other("the helper has ended".to_owned()));
        }
        DefaultExecutor {}.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)
    }
}

/// Answers the node with one line and gives standard output up, so that the node sees its end.
fn answer(started: &Started) {
    let line = serde_json::to_string(started).expect("a number or a string is always JSON");
    println!("{line}");
    let _ = io::stdout().flush();
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(null);
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn watch(dir: &Path, mut running: Running) -> i32 {
    let status = follow(&mut running);
    let exit = Exit {
        exit_code: status.0,
        signal: status.1,
        oom_killed: cgroups::oom_killed(&running.config.cgroup_path),
        finished_at: bundle::now(),
    };
    let written = bundle::write_exit(dir, &exit);
    if let Err(error) = running.container.delete(true) {
        eprintln!("remove the container's state and cgroups: {error}");
    }
    cgroups::leave_unified(&running.config.cgroup_path);
    let _ = std::fs::remove_file(dir.join(CONTROL));
    i32::from(written.is_err())
}

/// Copies the streams and passes signals on until the container has ended; returns its exit code and signal.
fn follow(running: &mut Running) -> (i32, i32) {
    // Only now: a mask set before would be inherited by the container.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let ended = children
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .expect("blocking SIGCHLD and making a signalfd need no privilege");
    let mut streams = [Stream::new("stdout"), Stream::new("stderr")];
    let mut open = [true, true];
    loop {
        let status = reap(running.init);
        for at in 0..2 {
            open[at] = open[at] && drain(&mut running.log, &mut running.outputs[at], &mut streams[at]);
        }
        if let Some(status) = status {
            for stream in &mut streams {
                let _ = running.log.finish(stream);
            }
            return status;
        }
        pass_signals(&mut running.control, running.init);
        wait_for_any(running, &ended, open);
        while let Ok(Some(_)) = ended.read_signal() {}
    }
}

fn wait_for_any(running: &Running, ended: &SignalFd, open: [bool; 2]) {
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![ended.as_fd(), running.control.as_fd()];
    descriptors.extend((0..2).filter(|at| open[*at]).map(|at| running.outputs[at].as_fd()));
    let mut polled: Vec<PollFd<'_>> = descriptors.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // An interrupted poll is one more turn of the loop.
    let _ = poll(&mut polled, PollTimeout::NONE);
}

/// Reaps every child; returns the exit code and signal of the container's init process once it has ended.
fn reap(init: Pid) -> Option<(i32, i32)> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == init => return Some((code, 0)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == init => {
                return Some((128 + signal as i32, signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child at all: init is gone without a word.
            Err(_) => return Some((255, 0)),
        }
    }
}

/// Copies what the stream holds now; false once it has ended. More than a pipe can hold (1 MiB) is left for the next
/// turn, so that a container that never stops writing cannot keep signals from being passed.
fn drain(log: &mut Log, output: &mut File, stream: &mut Stream) -> bool {
    let mut buffer = [0; 32 * 1024];
    for _ in 0..33 {
        match output.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                // A full disk must not stop the container: the line is lost, the copying goes on.
                let _ = log.write(stream, &buffer[..count]);
            }
            Err(error) => {
                return error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::Interrupted;
            }
        }
    }
    true
}

/// Passes the node's signals to the container. The helper is its parent, so the pid cannot have been reused.
fn pass_signals(control: &mut File, init: Pid) {
    let mut buffer = [0; 256];
    let Ok(count) = control.read(&mut buffer) else { return };
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    for number in text.lines().filter_map(|line| line.trim().parse::<i32>().ok()) {
        if let Ok(signal) = Signal::try_from(number) {
            let _ = kill(init, signal);
        }
    }
}
