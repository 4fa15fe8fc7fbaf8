//! A cluster of two nodes, and kubectl in the oldest and the newest version that must work.
use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Oldest and newest version.
const VERSIONS: [&str; 2] = ["kubectl.1.27", "kubectl.1.33"];
/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster; dropping it takes it down.
pub(crate) struct Cluster {
    name: String,
}

impl Cluster {
    pub(crate) fn up() -> Cluster {
        let cluster = Cluster { name: format!("rollout-{}", std::process::id()) };
        let mut weft = Command::new(program("weft"));
        weft.args(["up", "--name", &cluster.name, "--nodes", "2", "--api-port", "0"]);
        weft.arg("--image").arg(image("probe-1.0"));
        succeeded("weft up", &weft.output().expect("weft starts"));
        cluster
    }

    /// One kubectl a version, each with a namespace that is there.
    pub(crate) fn kubectls(&self) -> Vec<Kubectl> {
        let kubeconfig = Path::new("/var/lib/weft/clusters").join(&self.name).join("admin.kubeconfig");
        let found: Vec<Kubectl> = programs()
            .into_iter()
            .enumerate()
            .map(|(number, program)| Kubectl {
                program,
                kubeconfig: kubeconfig.clone(),
                namespace: format!("rollout-{number}"),
            })
            .collect();
        if found.is_empty() {
            // Past the test harness, which keeps what a test prints.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no kubectl on the PATH: rollouts were not tried");
        }
        for kubectl in &found {
            kubectl.run(&format!("create namespace {}", kubectl.namespace), &["created"]);
        }
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = Command::new(program("weft")).args(["down", "--name", &self.name]).output();
    }
}

/// The versions that lie beside a kubectl of PATH, else that one.
fn programs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut links = env::split_paths(&path).map(|directory| directory.join("kubectl"));
    let Some(real) = links.find_map(|link| link.canonicalize().ok()) else { return Vec::new() };
    let beside = VERSIONS.map(|version| real.with_file_name(version));
    let found: Vec<PathBuf> = beside.into_iter().filter(|program| program.exists()).collect();
    if found.is_empty() { vec![real] } else { found }
}

fn from_environment(variable: &str, default: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone");
    env::var_os(variable).map_or_else(|| root.join(default), PathBuf::from)
}

fn program(name: &str) -> PathBuf {
    let default = format!("target/{}-unknown-linux-gnu/release", env::consts::ARCH);
    let path = from_environment("WEFT_PROGRAMS", &default).join(name);
    assert!(path.exists(), "{} is missing: run cargo xtask build", path.display());
    path
}

fn image(name: &str) -> PathBuf {
    let path = from_environment("WEFT_IMAGES", "target/images").join(format!("{name}.tar"));
    assert!(path.exists(), "{} is missing: run cargo xtask image", path.display());
    path
}

#[track_caller]
fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    text
}

/// kubectl of one version, in one namespace.
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    pub(crate) namespace: String,
}

impl Kubectl {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(["--namespace", &self.namespace]);
        command.args(line.split_whitespace());
        command
    }

    /// Runs a line and demands its success and each of `expected` in what it prints.
    #[track_caller]
    pub(crate) fn run(&self, line: &str, expected: &[&str]) -> String {
        let output = self.command(line).output().expect("kubectl starts");
        let text = succeeded(&format!("{} {line}", self.program.display()), &output);
        for part in expected {
            assert!(text.contains(part), "{} {line}: no {part:?} in\n{text}", self.program.display());
        }
        text
    }

    /// Runs a line and demands that it exits with 1 and says `expected`.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, expected: &str) {
        let output = self.command(line).output().expect("kubectl starts");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let right = output.status.code() == Some(1) && text.contains(expected);
        assert!(right, "{line}: {}, expected 1 and {expected:?}, got\n{text}", output.status);
    }

    /// Runs a line until what it prints satisfies.
    #[track_caller]
    pub(crate) fn until(&self, line: &str, satisfied: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.command(line).output().expect("kubectl starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && satisfied(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "{line}: not so after {PATIENCE:?}:\n{text}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) {
        let mut command = self.command("apply -f -");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        child.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("kubectl reads");
        succeeded("kubectl apply", &child.wait_with_output().expect("kubectl ends"));
    }

    /// Waits for a rollout as a script does.
    #[track_caller]
    pub(crate) fn rolled_out(&self, what: &str) {
        self.run(&format!("rollout status {what} --timeout=60s"), &["successfully rolled out"]);
    }

    /// Names of what a selector finds.
    #[track_caller]
    pub(crate) fn names(&self, kind: &str, selector: &str) -> Vec<String> {
        let text = self.run(&format!("get {kind} -l {selector} -o name"), &[]);
        text.lines().map(ToOwned::to_owned).collect()
    }
}

/// A Deployment or DaemonSet of the probe with label `app`, and more fields of its spec.
pub(crate) fn workload(kind: &str, name: &str, spec: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollout/workload.yaml"))
        .expect("the manifest lies beside this file")
        .replace("KIND", kind)
        .replace("NAME", name)
        .replace("SPEC", spec)
}
