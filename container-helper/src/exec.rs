//! One more process in a running container: probes, hooks and `kubectl exec`.
//!
//! It is what the container's own process is (user, groups, environment, working directory, capabilities, limits, no new
//! privileges), in the container's namespaces and cgroup, with other arguments. Without a terminal its streams are those of
//! the helper itself, which lets go of them; with one, the master side goes through the socket of `--tty`. The helper's
//! exit code is the process's own; 126 means that it could not be started, with the reason in the file of `--report`, or
//! on standard error.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use serde_json::{Value, json};

use crate::run::Payload;
use crate::{bundle, cgroups};

/// The process could not be started.
const NOT_STARTED: i32 = 126;
/// What a process with a terminal is told about it, unless the container says otherwise.
const TERM: &str = "TERM=xterm";

/// The words behind `exec DIR`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    report: Option<PathBuf>,
    tty: Option<PathBuf>,
    command: Vec<String>,
}

impl Words {
    fn parse(words: &[String]) -> Self {
        let mut parsed = Self::default();
        let mut rest = words;
        loop {
            match rest {
                [name, value, more @ ..] if name == "--report" => {
                    parsed.report = Some(value.into());
                    rest = more;
                }
                [name, value, more @ ..] if name == "--tty" => {
                    parsed.tty = Some(value.into());
                    rest = more;
                }
                [dashes, command @ ..] if dashes == "--" => {
                    parsed.command = command.to_vec();
                    return parsed;
                }
                command => {
                    parsed.command = command.to_vec();
                    return parsed;
                }
            }
        }
    }
}

/// Runs the command of `words` in the container of `dir`.
pub(crate) fn exec(dir: &Path, words: &[String]) -> i32 {
    let words = Words::parse(words);
    let detached = words.report.is_some();
    if detached {
        // A session of its own: signals for the node's group do not reach it.
        let _ = nix::unistd::setsid();
    }
    match start(dir, &words) {
        Ok(pid) => {
            if detached {
                let_go();
            }
            wait(pid)
        }
        Err(error) => {
            match &words.report {
                // A report that cannot be written leaves the code, which says the same in one number.
                Some(report) => drop(fs::write(report, error.to_string())),
                None => eprintln!("{error}"),
            }
            NOT_STARTED
        }
    }
}

fn start(dir: &Path, words: &Words) -> Result<Pid, Box<dyn std::error::Error>> {
    let config = bundle::read_config(dir)?;
    let spec: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    // libcontainer takes the process by the name of a file.
    let mut file = File::from(memfd_create("process.json", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(process(&spec, &words.command, words.tty.is_some()).to_string().as_bytes())?;
    let mut builder = ContainerBuilder::new(config.id.clone(), SyscallType::default())
        .with_root_path(config.state_root)?
        .with_executor(Payload::default());
    if let Some(socket) = &words.tty {
        builder = builder.with_console_socket(Some(socket));
    }
    let pid = builder
        .as_tenant()
        .with_container_args(words.command.clone())
        .with_process(Some(format!("/proc/self/fd/{}", file.as_raw_fd())))
        .with_detach(words.tty.is_some())
        .build()?;
    let pid = Pid::from_raw(pid.as_raw());
    // The filter is in force since the container was started.
    if let Err(error) = cgroups::join_unified(&config.cgroup_path, pid.as_raw(), false) {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        return Err(error.into());
    }
    Ok(pid)
}

/// The container's process with another command.
fn process(spec: &Value, command: &[String], tty: bool) -> Value {
    let mut process = spec["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    let says = |entry: &Value| entry.as_str().is_some_and(|entry| entry.starts_with("TERM="));
    if tty
        && let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(says)
    {
        env.push(json!(TERM));
    }
    process
}

/// Closes the helper's own copies of the process's streams, so that their ends are seen as soon as the process is gone.
fn let_go() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        // Three numbers that are open: nothing can fail.
        let _ = dup2_stdin(&null);
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], report: Option<&str>, tty: Option<&str>, command: &[&str]) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let expected = Words {
            report: report.map(Into::into),
            tty: tty.map(Into::into),
            command: command.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(Words::parse(&words), expected);
    }

    #[test]
    fn words() {
        check(&["ls", "-l"], None, None, &["ls", "-l"]);
        check(&["--", "--tty", "x"], None, None, &["--tty", "x"]);
        check(&["--report", "/r", "--tty", "/t", "--", "sh"], Some("/r"), Some("/t"), &["sh"]);
    }

    #[test]
    fn the_process_is_the_containers_with_another_command() {
        let spec = json!({"process": {"args": ["a"], "user": {"uid": 7}, "cwd": "/w", "env": ["A=1"]}});
        let command = ["id".to_owned()];
        let plain = json!({"args": ["id"], "user": {"uid": 7}, "cwd": "/w", "env": ["A=1"], "terminal": false});
        assert_eq!(process(&spec, &command, false), plain);
        assert_eq!(process(&spec, &command, true)["env"], json!(["A=1", "TERM=xterm"]));
        let own = json!({"process": {"env": ["TERM=vt100"]}});
        assert_eq!(process(&own, &command, true)["env"], json!(["TERM=vt100"]));
    }
}
