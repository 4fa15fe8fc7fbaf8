//! One more process in a running container, and connections into a sandbox's network.
//!
//! The process is started by a helper of its own, which waits for it and passes its exit code on. Without a terminal its
//! streams are pipes between it and this node, with nobody in between; with one, this node holds the pty's master side.
//! When they are dropped the process reads the end of its input, is told by SIGPIPE or a hang-up, or goes on: nobody kills
//! it, as containerd does not.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;

use super::embedded::Inner;
use super::terminal::Console;
pub use super::terminal::{Size, Terminal};
use super::{Error, ExecResult, State, helper};

/// The helper's exit code for a process that could not be started; it is the process's own if there is no report.
const NOT_STARTED: i32 = 126;
/// How long a port may take to accept.
const DIAL: Duration = Duration::from_secs(30);

/// What to start, with which streams.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Program and arguments, without a shell.
    pub command: Vec<String>,
    /// Standard input is wanted; else it is /dev/null.
    pub stdin: bool,
    /// Standard output is wanted.
    pub stdout: bool,
    /// Standard error is wanted; never with a terminal, which has one output.
    pub stderr: bool,
    /// All three are one terminal.
    pub tty: bool,
}

/// What writes to a process.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// What reads from a process.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A process whose streams the caller holds.
pub struct Process {
    /// Standard input; its shutdown or drop is the end of the input.
    pub stdin: Option<Writer>,
    /// Standard output, or the terminal.
    pub stdout: Option<Reader>,
    /// Standard error.
    pub stderr: Option<Reader>,
    /// To resize.
    pub terminal: Option<Terminal>,
    /// Its exit code, 128 + signal for a killed one.
    pub exit: BoxFuture<'static, Result<i32, Error>>,
}

/// ExecSync.
pub(super) async fn sync(inner: &Inner, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult, Error> {
    inner.in_state(id, "execute in", State::Running)?;
    let dir = inner.container_dir(id);
    let mut helper = helper::command("exec");
    helper.arg(&dir).arg("--").args(command).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(timeout, helper.output()).await;
    let timed_out = |_| Error::Helper { message: format!("command {command:?} timed out") };
    let output = output.map_err(timed_out)?.map_err(Error::io("start a helper for", &dir))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok(ExecResult { output: text, code: output.status.code().unwrap_or(-1) })
}

/// Exec.
pub(super) async fn start(inner: &Inner, id: &str, request: &ExecRequest) -> Result<Process, Error> {
    inner.in_state(id, "execute in", State::Running)?;
    let dir = inner.container_dir(id);
    let report = dir.join(format!("exec-{}", uuid::Uuid::new_v4().simple()));
    let mut helper = helper::command("exec");
    helper.arg(&dir).arg("--report").arg(&report);
    if request.tty {
        let socket = report.with_extension("tty");
        let console = Console::bind(&socket).map_err(Error::io("bind", &socket))?;
        helper.arg("--tty").arg(&socket).arg("--").args(&request.command);
        helper.stdout(Stdio::null()).stderr(Stdio::null());
        let child = helper.spawn().map_err(Error::io("start a helper for", &dir))?;
        return on_terminal(child, report, &console, request).await;
    }
    let wanted = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
    helper.arg("--").args(&request.command);
    helper.stdin(wanted(request.stdin)).stdout(wanted(request.stdout)).stderr(wanted(request.stderr));
    let mut child = helper.spawn().map_err(Error::io("start a helper for", &dir))?;
    Ok(Process {
        stdin: child.stdin.take().map(|pipe| Box::new(pipe) as Writer),
        stdout: child.stdout.take().map(|pipe| Box::new(pipe) as Reader),
        stderr: child.stderr.take().map(|pipe| Box::new(pipe) as Reader),
        terminal: None,
        exit: Box::pin(exit(child, report)),
    })
}

async fn on_terminal(
    mut child: Child,
    report: PathBuf,
    console: &Console,
    request: &ExecRequest,
) -> Result<Process, Error> {
    let terminal = tokio::select! {
        terminal = console.receive() => terminal.map_err(Error::io("receive the terminal of", &report))?,
        // It ended before it had a terminal: the report says why.
        _ = child.wait() => {
            let code = exit(child, report).await?;
            return Err(Error::Helper { message: format!("the process ended with code {code} before its terminal was there") });
        }
    };
    Ok(Process {
        stdin: request.stdin.then(|| Box::new(terminal.clone()) as Writer),
        stdout: request.stdout.then(|| Box::new(terminal.clone()) as Reader),
        stderr: None,
        terminal: Some(terminal),
        exit: Box::pin(exit(child, report)),
    })
}

async fn exit(mut child: Child, report: PathBuf) -> Result<i32, Error> {
    let status = child.wait().await.map_err(Error::io("wait for", &report))?;
    let code = status.code().unwrap_or(-1);
    let words = std::fs::read_to_string(&report);
    let _ = std::fs::remove_file(&report);
    match words {
        Ok(message) if code == NOT_STARTED => Err(Error::Helper { message }),
        _ => Ok(code),
    }
}

/// PortForward: a connection to a port of the sandbox's own loopback address.
pub(super) async fn connect(inner: &Inner, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream, Error> {
    let record = inner.sandbox(sandbox).filter(|record| record.ready);
    let record = record.ok_or_else(|| Error::NotFound { kind: "ready sandbox", id: sandbox.to_owned() })?;
    let failed = |source| Error::Connect { port, sandbox: sandbox.to_owned(), source };
    let (to, dialled) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends: it has left the node's network for good.
    std::thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || {
            // Nobody waits any more: the connection closes.
            let _ = to.send(dial(record.netns.as_deref(), port));
        })
        .map_err(failed)?;
    let stream = dialled.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(failed)?;
    tokio::net::TcpStream::from_std(stream).map_err(failed)
}

fn dial(netns: Option<&Path>, port: u16) -> io::Result<TcpStream> {
    if let Some(path) = netns {
        nix::sched::setns(std::fs::File::open(path)?, nix::sched::CloneFlags::CLONE_NEWNET)?;
    }
    let to = |address: SocketAddr| TcpStream::connect_timeout(&address, DIAL);
    let stream = to((Ipv4Addr::LOCALHOST, port).into())
        .or_else(|error| to((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
