//! The cluster, kubectl and the connections that the test makes.
use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

/// A running cluster; dropping it takes it down.
pub(crate) struct Cluster {
    name: String,
    dir: tempfile::TempDir,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone").to_path_buf()
}

fn built(variable: &str, default: &str, file: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from).join(file);
    assert!(path.exists(), "{} is missing: run cargo xtask build and cargo xtask image", path.display());
    path
}

fn weft() -> Command {
    let default = format!("target/{}-unknown-linux-gnu/release", env::consts::ARCH);
    Command::new(built("WEFT_PROGRAMS", &default, "weft"))
}

impl Cluster {
    /// One node, with busybox.
    pub(crate) fn up(name: &str) -> Self {
        Self::up_with_nodes(name, 1)
    }

    /// So many nodes, with busybox.
    pub(crate) fn up_with_nodes(name: &str, nodes: u32) -> Self {
        let cluster =
            Self { name: format!("{name}-{}", std::process::id()), dir: tempfile::tempdir().expect("a directory") };
        let mut up = weft();
        up.args([
            "up",
            "--name",
            &cluster.name,
            "--nodes",
            &nodes.to_string(),
            "--api-port",
            "0",
            "--publish",
            "0:30080",
        ]);
        up.arg("--image").arg(built("WEFT_IMAGES", "target/images", "busybox-1.0.tar"));
        succeeded("weft up", &up.output().expect("weft starts"));
        cluster
    }

    /// For files of the test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Our own command line with its kubeconfig.
    pub(crate) fn weft(&self, words: &[&str]) -> Output {
        weft().args(words).env("KUBECONFIG", self.kubeconfig()).output().expect("weft starts")
    }

    fn kubeconfig(&self) -> PathBuf {
        Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig")
    }

    /// A kubectl that talks to it.
    pub(crate) fn kubectl<'a>(&self, program: &'a Path) -> Kubectl<'a> {
        Kubectl { program, kubeconfig: self.kubeconfig() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A cluster that did not come up is taken down as far as it came.
        let _ = weft().args(["down", "--name", &self.name]).output();
    }
}

#[track_caller]
fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// The kubectls of these versions beside what `kubectl` on the PATH is a link to; that one alone if there are none.
pub(crate) fn versions(wanted: &[&str]) -> Vec<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let link = env::split_paths(&paths).map(|dir| dir.join("kubectl")).find(|path| path.exists());
    let link = link.expect("kubectl is on the PATH");
    let dir = link.canonicalize().ok().and_then(|real| real.parent().map(Path::to_path_buf)).unwrap_or_default();
    let found: Vec<PathBuf> =
        wanted.iter().map(|version| dir.join(format!("kubectl.{version}"))).filter(|path| path.exists()).collect();
    if found.is_empty() { vec![link] } else { found }
}

/// A kubectl and its cluster.
pub(crate) struct Kubectl<'a> {
    program: &'a Path,
    kubeconfig: PathBuf,
}

impl Kubectl<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// Runs with this input.
    pub(crate) fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // A command that reads nothing closes the pipe.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("kubectl ends");
        writer.join().expect("no panic");
        output
    }

    /// Runs and must succeed.
    #[track_caller]
    pub(crate) fn good(&self, words: &[&str]) -> String {
        succeeded(&format!("{} {words:?}", self.program.display()), &self.run(words, b""))
    }

    /// Applies manifests.
    #[track_caller]
    pub(crate) fn apply(&self, manifests: &str) {
        succeeded("apply", &self.run(&["apply", "-f", "-"], manifests.as_bytes()));
    }

    /// As a line for a shell.
    pub(crate) fn line(&self, words: &[&str]) -> String {
        format!("{} --kubeconfig {} {}", self.program.display(), self.kubeconfig.display(), words.join(" "))
    }

    /// Starts a port-forward and waits until it listens.
    #[track_caller]
    pub(crate) fn forward(&self, target: &str, port: &str) -> Forward {
        let mut command = self.command();
        command.args(["port-forward", "--address", "127.0.0.1", target, port]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        // kubectl writes a line for each connection: somebody must read them.
        thread::spawn(move || lines.for_each(drop));
        let number = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        let port = number.and_then(|number| number.parse().ok());
        let mut forward = Forward { child, port: 0 };
        forward.port = port.unwrap_or_else(|| panic!("{target}: {line:?}"));
        forward
    }
}

/// A running port-forward.
pub(crate) struct Forward {
    child: Child,
    /// On this machine.
    pub(crate) port: u16,
}

impl Forward {
    /// Ends it and returns what it complained about.
    pub(crate) fn errors(mut self) -> String {
        let mut stderr = self.child.stderr.take().expect("piped");
        let _ = self.child.kill();
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `/` and returns the body; empty if there is none.
pub(crate) fn get(port: u16) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let _ = stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n");
        let mut text = String::new();
        // A connection that is refused behind kubectl may end as a reset.
        let _ = stream.read_to_string(&mut text);
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    })
}
