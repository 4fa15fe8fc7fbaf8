//! `/exec`, `/attach`, `/portForward` and `/run`: a request becomes streams between a client and a process.
//!
//! A request is judged before the protocol is switched, in the kubelet's words; after it, errors go through the error
//! stream as a `metav1.Status`. When the client goes, the process does not: its input ends, its output breaks, its terminal
//! hangs up, and what it makes of that is its own affair, as with containerd.

mod copy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::channels::{self, Form};
use super::handshake::{self, COMMAND, FORWARD, Transport};
use super::pipe::{Activity, Input, Output, Piece, QUEUE};
use super::{Body, attach, forward, spdy, text};
use crate::context::Node;
use crate::plan;
use crate::pods::Pods;
use crate::runtime::exec::{ExecRequest, Process};
use crate::runtime::{Container, Error, State};
use copy::{drain, feed, follow_size};

/// How long a client may take to open its streams.
const STREAMS: Duration = Duration::from_secs(30);
/// How long a command of `/run` may take.
const RUN: Duration = Duration::from_secs(120);
/// Channels of a WebSocket.
const STDIN: u8 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERROR: u32 = 3;
const RESIZE: u8 = 4;

type Names<'a> = (&'a str, &'a str, &'a str);
type Refusal = (StatusCode, String);

/// `/exec`.
pub(super) fn exec(node: &Arc<Node>, pods: &Pods, names: Names<'_>, request: Request<Incoming>) -> Response<Body> {
    command(node, pods, names, request, false).unwrap_or_else(|(status, words)| text(status, words))
}

/// `/attach`.
pub(super) fn attach(node: &Arc<Node>, pods: &Pods, names: Names<'_>, request: Request<Incoming>) -> Response<Body> {
    command(node, pods, names, request, true).unwrap_or_else(|(status, words)| text(status, words))
}

fn command(
    node: &Arc<Node>,
    pods: &Pods,
    names: Names<'_>,
    mut request: Request<Incoming>,
    attach: bool,
) -> Result<Response<Body>, Refusal> {
    let container = running(node, pods, names)?;
    let asked = asked(request.uri().query().unwrap_or_default())?;
    if attach && asked.stdin {
        return Err((StatusCode::NOT_IMPLEMENTED, attach::NO_INPUT.to_owned()));
    }
    let transport = handshake::choose(request.headers(), &COMMAND)?;
    let response = handshake::switch(request.headers(), transport);
    let (namespace, pod, name) = names;
    let verb = if attach { "attach" } else { "exec" };
    tracing::info!(namespace, pod, container = name, command = ?asked.command, tty = asked.tty, "{verb}");
    let (upgrade, node) = (hyper::upgrade::on(&mut request), node.clone());
    tokio::spawn(async move {
        let io = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a client did not switch protocols"),
        };
        let activity = Activity::default();
        tokio::spawn({
            let activity = activity.clone();
            async move { activity.watch().await }
        });
        let remote = match transport {
            Transport::Channels { form, .. } => over_channels(channels::accept(io).await, form, &asked, activity).await,
            Transport::Tunnel { .. } => None,
            Transport::Spdy { .. } => over_spdy(io, &asked, activity).await,
        };
        let Some(remote) = remote else { return };
        let process = if attach {
            Ok(attach::process(&node, &container))
        } else {
            node.runtime.exec_stream(&container.id, &asked).await
        };
        let status = status(&asked.command, connect(process, &remote.ends, remote.stdin, remote.resize).await);
        remote.ends.finish(&status).await;
        let _ = remote.writer.await;
    });
    Ok(response)
}

/// The pod's container that runs, or the kubelet's words for why there is none.
fn running(node: &Node, pods: &Pods, (namespace, name, container): Names<'_>) -> Result<Container, Refusal> {
    let pod = pods.find(namespace, name).ok_or((StatusCode::NOT_FOUND, "pod does not exist\n".to_owned()))?;
    let own = node.runtime.containers(pod.metadata.uid.as_deref());
    let found = plan::latest(&own, container).filter(|one| one.state == State::Running);
    found
        .cloned()
        .ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, format!("container not found (\"{container}\")\n")))
}

/// The query of exec and attach.
fn asked(query: &str) -> Result<ExecRequest, Refusal> {
    let mut asked = ExecRequest::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = value == "1" || value.eq_ignore_ascii_case("true");
        match &*name {
            "command" => asked.command.push(value.into_owned()),
            "input" => asked.stdin = flag,
            "output" => asked.stdout = flag,
            "error" => asked.stderr = flag,
            "tty" => asked.tty = flag,
            _ => {}
        }
    }
    // A terminal has one output.
    asked.stderr &= !asked.tty;
    if asked.stdin || asked.stdout || asked.stderr {
        return Ok(asked);
    }
    Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr\n".to_owned()))
}

/// Where a client's side ends that the process writes to.
#[derive(Clone)]
struct Ends {
    stdout: Option<Output>,
    stderr: Option<Output>,
    error: Output,
    pieces: mpsc::Sender<Piece>,
    activity: Activity,
}

/// A client's side of a command.
struct Remote {
    ends: Ends,
    stdin: Option<Input>,
    resize: Option<Input>,
    writer: JoinHandle<()>,
}

impl Ends {
    /// The last words: the status, the end of every stream, the end of the connection.
    async fn finish(&self, status: &Value) {
        // A client that is gone misses them.
        let _ = self.error.send(Bytes::from(status.to_string())).await;
        for output in self.stdout.iter().chain(&self.stderr).chain([&self.error]) {
            output.close().await;
        }
        let _ = self.pieces.send(Piece::Bye).await;
    }
}

async fn over_channels<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(
    socket: tokio_tungstenite::WebSocketStream<S>,
    form: Form,
    asked: &ExecRequest,
    activity: Activity,
) -> Option<Remote> {
    let mut inputs = HashMap::new();
    let mut input = |channel: u8, wanted: bool| {
        wanted.then(|| {
            let (to, input) = mpsc::channel(QUEUE);
            inputs.insert(channel, to);
            input
        })
    };
    let (stdin, resize) = (input(STDIN, asked.stdin), input(RESIZE, asked.tty));
    let (pieces, writer) = channels::start(socket, form, inputs, activity.clone());
    let output = |channel: u32, wanted: bool| wanted.then(|| Output::new(channel, pieces.clone()));
    let (stdout, stderr) = (output(STDOUT, asked.stdout), output(STDERR, asked.stderr));
    let error = Output::new(ERROR, pieces.clone());
    // Upstream greets on the lowest channel that it writes to, and clients wait for it.
    stdout.as_ref().or(stderr.as_ref()).unwrap_or(&error).send(Bytes::new()).await.ok()?;
    Some(Remote { ends: Ends { stdout, stderr, error, pieces, activity }, stdin, resize, writer })
}

async fn over_spdy(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    asked: &ExecRequest,
    activity: Activity,
) -> Option<Remote> {
    let (mut streams, pieces, writer) = spdy::start(io, activity.clone());
    let mut found: HashMap<String, spdy::Stream> = HashMap::new();
    let wanted = [
        ("error", true),
        ("stdin", asked.stdin),
        ("stdout", asked.stdout),
        ("stderr", asked.stderr),
        ("resize", asked.tty),
    ];
    let complete = |found: &HashMap<String, spdy::Stream>| {
        wanted.iter().all(|(name, wanted)| !wanted || found.contains_key(*name))
    };
    while !complete(&found) {
        match tokio::time::timeout(STREAMS, streams.recv()).await {
            Ok(Some(stream)) => drop(found.insert(stream.header("streamtype").to_owned(), stream)),
            Ok(None) => return None,
            Err(_late) => {
                tracing::debug!("a client did not open its streams in time");
                activity.end();
                return None;
            }
        }
    }
    // A command's streams are all there; more are not looked at.
    let mut take = |name: &str, wanted: bool| if wanted { found.remove(name) } else { None };
    let (stdin, resize) = (take("stdin", asked.stdin), take("resize", asked.tty));
    let (stdout, stderr, error) = (take("stdout", asked.stdout), take("stderr", asked.stderr), take("error", true)?);
    let ends = Ends {
        stdout: stdout.map(|stream| stream.output),
        stderr: stderr.map(|stream| stream.output),
        error: error.output,
        pieces,
        activity,
    };
    let input = |stream: Option<spdy::Stream>| stream.map(|stream| stream.input);
    Some(Remote { ends, stdin: input(stdin), resize: input(resize), writer })
}

/// Copies until the process's output and the process have ended, or the client is gone.
async fn connect(
    process: Result<Process, Error>,
    ends: &Ends,
    stdin: Option<Input>,
    resize: Option<Input>,
) -> Result<i32, Error> {
    let process = process?;
    // Somebody must wait for the process also when the client does not.
    let exit = tokio::spawn(process.exit);
    let input = tokio::spawn(feed(stdin, process.stdin, ends.activity.clone()));
    let resizing = tokio::spawn(follow_size(resize, process.terminal, ends.activity.clone()));
    tokio::join!(
        drain(process.stdout, ends.stdout.as_ref(), &ends.activity),
        drain(process.stderr, ends.stderr.as_ref(), &ends.activity)
    );
    let code = tokio::select! {
        code = exit => code.unwrap_or(Ok(-1)),
        // Nobody is left to hear it.
        () = ends.activity.ended() => Ok(-1),
    };
    input.abort();
    resizing.abort();
    code
}

/// What a client is told about the end.
fn status(command: &[String], end: Result<i32, Error>) -> Value {
    match end {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => {
            let words = format!("error executing command in container: {}", error.text());
            tracing::info!(?command, "{words}");
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {words}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": words}]},
                "code": 500,
            })
        }
    }
}

/// `/portForward`.
pub(super) fn port_forward(
    node: &Arc<Node>,
    pods: &Pods,
    (namespace, name): (&str, &str),
    mut request: Request<Incoming>,
) -> Response<Body> {
    let Some(pod) = pods.find(namespace, name) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist\n");
    };
    let sandboxes = node.runtime.sandboxes(pod.metadata.uid.as_deref());
    let Some(sandbox) = sandboxes.into_iter().filter(|one| one.ready).max_by_key(|one| one.attempt) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("pod not found (\"{name}_{namespace}\")\n"));
    };
    let query = request.uri().query().unwrap_or_default();
    let chosen = handshake::choose(request.headers(), &FORWARD)
        .and_then(|transport| Ok((transport, forward::ports(query, transport)?)));
    let (transport, ports) = match chosen {
        Ok(chosen) => chosen,
        Err((status, words)) => return text(status, words),
    };
    tracing::info!(namespace, pod = name, "port-forward");
    let response = handshake::switch(request.headers(), transport);
    let (upgrade, runtime) = (hyper::upgrade::on(&mut request), node.runtime.clone());
    let target = forward::Target { runtime, sandbox: sandbox.id, pod: name.to_owned(), uid: sandbox.pod.uid };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => forward::serve(TokioIo::new(upgraded), transport, ports, Arc::new(target)).await,
            Err(error) => tracing::debug!(%error, "a client did not switch protocols"),
        }
    });
    response
}

/// `/run`: the command of `cmd`, split at blanks, and its whole output.
pub(super) async fn run(node: &Arc<Node>, pods: &Pods, names: Names<'_>, query: &str) -> Response<Body> {
    let container = match running(node, pods, names) {
        Ok(container) => container,
        Err((status, words)) => return text(status, words),
    };
    let parsed = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "cmd");
    let words: Vec<String> = parsed.map(|(_, value)| value.split(' ').map(str::to_owned).collect()).unwrap_or_default();
    if words.iter().all(String::is_empty) {
        return text(StatusCode::BAD_REQUEST, "cmd is required\n");
    }
    tracing::info!(namespace = names.0, pod = names.1, container = names.2, command = ?words, "run");
    match node.runtime.exec(&container.id, &words, RUN).await {
        Ok(result) if result.code == 0 => text(StatusCode::OK, result.output),
        Ok(result) => {
            let words = format!("command '{}' exited with {}: {}", words.join(" "), result.code, result.output);
            text(StatusCode::INTERNAL_SERVER_ERROR, words)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.text()),
    }
}

#[cfg(test)]
mod tests;
