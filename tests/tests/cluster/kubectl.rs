//! Stock kubectl against the embedded cluster: what users type, and what they expect to read.
use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

/// Versions that must work.
const SUPPORTED: std::ops::RangeInclusive<u32> = 27..=33;
/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every kubectl 1.27 to 1.33 in a directory of PATH or behind a link there, one a minor version.
pub(crate) fn versions() -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let link = directory.join("kubectl");
        let Ok(real) = link.canonicalize() else { continue };
        for entry in real.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let minor = name.strip_prefix("kubectl.1.").and_then(|minor| minor.parse::<u32>().ok());
            if let Some(minor) = minor.filter(|minor| SUPPORTED.contains(minor)) {
                found.entry(minor).or_insert_with(|| entry.path());
            }
        }
        if found.is_empty() {
            found.insert(0, link);
        }
    }
    if found.is_empty() {
        // Past the test harness, which keeps what a test prints.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: no kubectl on the PATH: its part of the cluster test did not run");
    }
    found.into_values().collect()
}

struct Kubectl<'a> {
    program: &'a Path,
    kubeconfig: &'a Path,
    namespace: String,
}

impl Kubectl<'_> {
    fn output(&self, line: &str) -> Output {
        let mut command = Command::new(self.program);
        command.env("KUBECONFIG", self.kubeconfig).args(["--namespace", &self.namespace]);
        command.args(line.split_whitespace()).output().expect("kubectl starts")
    }

    /// Runs a line and demands its success and each of `expected` in what it prints.
    #[track_caller]
    fn run(&self, line: &str, expected: &[&str]) -> String {
        let output = self.output(line);
        let text = super::succeeded(&format!("{} {line}", self.program.display()), &output);
        for part in expected {
            assert!(text.contains(part), "{} {line}: no {part:?} in\n{text}", self.program.display());
        }
        text
    }

    /// Runs a line until it prints `expected`.
    #[track_caller]
    fn until(&self, line: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8_lossy(&self.output(line).stdout).into_owned();
            if text.contains(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{line}: no {expected:?} after {PATIENCE:?}, but\n{text}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The whole scenario, in a namespace of its own.
pub(crate) fn works_as_anywhere(program: &Path, kubeconfig: &Path) {
    let name = program.file_name().expect("a program").to_string_lossy().replace('.', "-");
    let kubectl = Kubectl { program, kubeconfig, namespace: format!("it-{name}") };
    reads(&kubectl);
    kubectl.run(&format!("create namespace {}", kubectl.namespace), &["created"]);
    writes(&kubectl);
    refusals(&kubectl);
    kubectl.run(&format!("delete namespace {} --timeout=60s", kubectl.namespace), &["deleted"]);
}

fn reads(kubectl: &Kubectl<'_>) {
    kubectl.run("version", &["Server Version"]);
    kubectl.run("get nodes -o wide", &["INTERNAL-IP", "node-1", "Ready"]);
    kubectl.run("get pods -A -o wide", &["NOMINATED NODE", "frontend-", "Running"]);
    kubectl.run("api-resources", &["deployments", "networkpolicies", "deploy"]);
    kubectl.run("explain pod.spec.containers", &["image", "KIND:"]);
    kubectl.run("auth can-i create deployments", &["yes"]);
    kubectl.run("describe node node-1", &["Allocatable", "InternalIP", "Ready"]);
    kubectl.run("-n guestbook describe service frontend", &["NodePort", "Endpoints:"]);
    kubectl.run("get --raw /readyz", &["ok"]);
    kubectl.run("cluster-info", &["running at"]);
}

fn writes(kubectl: &Kubectl<'_>) {
    kubectl.run("create deployment web --image=guestbook:1.0 --replicas=2 -- /guestbook backend", &["created"]);
    kubectl.run("rollout status deployment/web --timeout=60s", &["successfully rolled out"]);
    kubectl.run("get deployments", &["READY", "2/2"]);
    kubectl.run("describe deployment web", &["Replicas:", "ScalingReplicaSet"]);
    kubectl.run("scale deployment web --replicas=1", &["scaled"]);
    kubectl.until("get deployment web", "1/1");
    kubectl.run("label deployment web tier=test", &["labeled"]);
    kubectl.run("annotate deployment web note=hello", &["annotate"]);
    kubectl.run("get deployments -l tier=test -o name", &["deployment.apps/web"]);
    kubectl.run("expose deployment web --port=80 --target-port=8080", &["exposed"]);
    kubectl.run("describe service web", &["Selector:", "app=web"]);
    let pod = kubectl.run("get pods -l app=web -o jsonpath={.items[0].metadata.name}", &["web-"]);
    kubectl.run(&format!("describe pod {pod}"), &["Node:", "guestbook:1.0", "Started"]);
    kubectl.run(&format!("logs {pod}"), &["serving on port"]);
    kubectl.run("get events", &["Scheduled", "LAST SEEN"]);
    applied(kubectl);
    kubectl.run("delete deployment web --timeout=60s", &["deleted"]);
}

/// `apply` twice: the second changes one field.
fn applied(kubectl: &Kubectl<'_>) {
    let path = env::temp_dir().join(format!("{}-{}.yaml", kubectl.namespace, std::process::id()));
    let manifest =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  key: {value}\n");
    for (value, verb) in [("one", "created"), ("two", "configured"), ("two", "unchanged")] {
        fs::write(&path, manifest(value)).expect("a temporary file");
        kubectl.run(&format!("apply -f {}", path.display()), &[verb]);
        kubectl.run("get configmap c -o jsonpath={.data.key}", &[value]);
    }
    fs::remove_file(&path).expect("a temporary file");
}

/// Bad input is refused as the real API server refuses it.
fn refusals(kubectl: &Kubectl<'_>) {
    let path = env::temp_dir().join(format!("{}-bad-{}.yaml", kubectl.namespace, std::process::id()));
    let cases = [
        ("metadata:\n  name: Bad_Name\ndata: {}\n", "metadata.name"),
        ("metadata:\n  name: good\nsurplus: 1\n", "unknown field \"surplus\""),
    ];
    for (body, expected) in cases {
        fs::write(&path, format!("apiVersion: v1\nkind: ConfigMap\n{body}")).expect("a temporary file");
        let output = kubectl.output(&format!("apply -f {}", path.display()));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "no {expected:?} in\n{text}");
    }
    fs::remove_file(&path).expect("a temporary file");
}
