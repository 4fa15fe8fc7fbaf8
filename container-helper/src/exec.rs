//! One more process in a running container: probes and, later, `kubectl exec`.
//!
//! Standard input, output and error are those of the helper itself. The exit code is the process's own; 126 means that it
//! could not be started, with the reason on standard error.

use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::bundle;
use crate::run::Payload;

/// The process could not be started.
const NOT_STARTED: i32 = 126;

/// Runs `words` (with an optional leading `--`) in the container of `dir`.
pub(crate) fn exec(dir: &Path, words: &[String]) -> i32 {
    let command: Vec<String> = words.iter().skip(usize::from(words[0] == "--")).cloned().collect();
    match start(dir, command) {
        Ok(pid) => wait(pid),
        Err(error) => {
            eprintln!("{error}");
            NOT_STARTED
        }
    }
}

fn start(dir: &Path, command: Vec<String>) -> Result<Pid, Box<dyn std::error::Error>> {
    let config = bundle::read_config(dir)?;
    let pid = ContainerBuilder::new(config.id, SyscallType::default())
        .with_root_path(config.state_root)?
        .with_executor(Payload::default())
        .as_tenant()
        .with_container_args(command)
        .with_detach(false)
        .build()?;
    Ok(Pid::from_raw(pid.as_raw()))
}

fn wait(pid: Pid) -> i32 {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                eprintln!("wait for process {pid}: {error}");
                return NOT_STARTED;
            }
        }
    }
}
