//! Starting this binary again as `container-helper`, and talking to what was started.
//!
//! The binary is named by `/proc/self/exe`, so that a node goes on with the program it was started from while a new one
//! is being installed. The files are described in the container-helper crate.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Error;

/// `exit.json`. The helper writes the first four fields; the node writes all when it is the one to know the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ExitFile {
    pub(super) exit_code: i32,
    pub(super) signal: i32,
    pub(super) oom_killed: bool,
    pub(super) finished_at: jiff::Timestamp,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Started {
    /// The process is the helper's to know: signals go through it.
    Pid(serde::de::IgnoredAny),
    Error(String),
}

/// This binary as a helper.
pub(super) fn command(verb: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["container-helper", verb]).stdin(Stdio::null());
    command
}

/// Starts the container in `dir` and waits until it runs. The child is the helper; it ends when the container has ended.
pub(super) async fn run(dir: &Path) -> Result<Child, Error> {
    let log = File::options().create(true).append(true).open(dir.join("helper.log")).map_err(Error::io("open", dir))?;
    let mut child = command("run")
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(Error::io("start a helper for", dir))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).await.map_err(Error::io("hear from the helper of", dir))?;
    }
    match serde_json::from_str(&line) {
        Ok(Started::Pid(_)) => Ok(child),
        Ok(Started::Error(message)) => Err(Error::Helper { message }),
        Err(_) => Err(Error::Helper {
            message: format!("the helper of {} ended without an answer, see its helper.log", dir.display()),
        }),
    }
}

/// Whether a helper holds the container in `dir`.
pub(super) fn is_alive(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("lock")) else { return false };
    Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
}

/// Sends a signal to the container's first process through its helper; a helper that is gone is no error.
pub(super) fn signal(dir: &Path, number: i32) -> std::io::Result<()> {
    match File::options().write(true).custom_flags(libc::O_NONBLOCK).open(dir.join("control")) {
        Ok(mut control) => writeln!(control, "{number}"),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) || error.kind() == std::io::ErrorKind::NotFound => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The number of a signal by name or number, as an image's STOPSIGNAL has it; SIGTERM if there is none.
pub(super) fn signal_number(name: &str) -> i32 {
    let long = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    let named = || long.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
    name.parse().ok().or_else(named).unwrap_or(libc::SIGTERM)
}

/// How the container in `dir` ended, if it has.
pub(super) fn read_exit(dir: &Path) -> Option<ExitFile> {
    serde_json::from_slice(&std::fs::read(dir.join("exit.json")).ok()?).ok()
}

/// Records an end that the helper could not.
pub(super) fn write_exit(dir: &Path, exit: &ExitFile) -> Result<(), Error> {
    super::records::write_json(&dir.join("exit.json"), exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name() {
        let cases = [("", 15), ("SIGINT", 2), ("QUIT", 3), ("9", 9), ("nonsense", 15)];
        for (name, number) in cases {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
