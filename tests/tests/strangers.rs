//! Clients that are not ours drive our API server: kubectl, kube-rs and the Python client from PyPI.
//!
//! One scenario (`strangers/scenario.yaml`), a driver for each client, one expectation for all of them. They share a
//! cluster of one node, each in a namespace of its own, at the same time.
#[path = "cluster/kubectl.rs"]
#[expect(dead_code, reason = "of what the cluster's test types, only the versions are wanted here")]
mod cluster;
#[path = "strangers/kubectl.rs"]
mod kubectl;
#[path = "strangers/python.rs"]
mod python;
#[path = "strangers/rust.rs"]
mod rust;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A step's answer, or the reason and the message of the refusal.
type Outcome = Result<Value, (String, String)>;

/// A client.
trait Driver: Send {
    fn step(&mut self, step: &Value) -> Outcome;
}

/// How long a step that holds eventually may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cluster; dropping it takes it down.
struct Cluster {
    name: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _best_effort = Command::new(weft()).args(["down", "--name", &self.name]).output();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the clone").to_path_buf()
}

fn given(variable: &str, default: &str, name: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| root().join(default), PathBuf::from).join(name);
    assert!(path.exists(), "{} is missing: run cargo xtask build and cargo xtask image", path.display());
    path
}

fn weft() -> PathBuf {
    given("WEFT_PROGRAMS", &format!("target/{}-unknown-linux-gnu/release", env::consts::ARCH), "weft")
}

#[track_caller]
fn succeeded(what: &str, output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{text}\n{errors}", output.status);
    text
}

/// A cluster, and its administrator's kubeconfig.
fn up() -> (Cluster, PathBuf) {
    let cluster = Cluster { name: format!("strangers-{}", std::process::id()) };
    let mut weft = Command::new(weft());
    weft.args(["up", "--name", &cluster.name, "--nodes", "1", "--api-port", "0", "--publish", "0:30080", "--image"]);
    weft.arg(given("WEFT_IMAGES", "target/images", "guestbook-1.0.tar"));
    succeeded("weft up", &weft.output().expect("weft starts"));
    let kubeconfig = Path::new("/var/lib/weft/clusters").join(&cluster.name).join("admin.kubeconfig");
    (cluster, kubeconfig)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn strangers_get_one_answer() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this test starts a local cluster, which needs root");
        return;
    }
    let (_cluster, kubeconfig) = up();
    let scratch = tempfile::tempdir().expect("a directory");
    let config = scratch.path().join("kubeconfig");
    std::fs::copy(kubeconfig, &config).expect("the kubeconfig is there");
    let drivers = drivers(&config);
    thread::scope(|scope| {
        for (name, driver) in drivers {
            scope.spawn(move || play(&name, driver));
        }
    });
}

/// The oldest and the newest kubectl that lie here, kube-rs, and the Python client.
fn drivers(config: &Path) -> Vec<(String, Box<dyn Driver>)> {
    let mut drivers: Vec<(String, Box<dyn Driver>)> = Vec::new();
    let programs = cluster::versions();
    let mut ends = vec![programs.first(), programs.last()];
    ends.dedup();
    for program in ends.into_iter().flatten() {
        let name = program.file_name().expect("a program").to_string_lossy().replace('.', "-");
        let kubectl =
            kubectl::Kubectl { program: program.clone(), kubeconfig: config.to_owned(), namespace: name.clone() };
        drivers.push((name, Box::new(kubectl)));
    }
    drivers.push(("kube-rs".to_owned(), Box::new(rust::KubeRs::start(config, "kube-rs"))));
    match python::packages() {
        Some(packages) => {
            drivers.push(("python".to_owned(), Box::new(python::Python::start(&packages, config, "python"))));
        }
        None => eprintln!("SKIPPED: the Python client is missing: run cargo xtask setup; the others are tried"),
    }
    drivers
}

/// Every step, in order.
fn play(name: &str, mut driver: Box<dyn Driver>) {
    let scenario: Vec<Value> =
        serde_yaml_ng::from_str(include_str!("strangers/scenario.yaml")).expect("the scenario is YAML");
    let mut variables = BTreeMap::from([("$namespace".to_owned(), name.to_owned())]);
    for step in scenario {
        let step = filled(&step, &variables);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = driver.step(&step);
            let verdict = judge(&step, &outcome);
            let Err(difference) = verdict else {
                save(&step, &outcome, &mut variables);
                break;
            };
            let again = step["eventually"] == true && Instant::now() < deadline;
            assert!(again, "{name}: {step}\n{difference}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A step with its variables' values.
fn filled(step: &Value, variables: &BTreeMap<String, String>) -> Value {
    match step {
        Value::String(text) => {
            let known = variables.iter();
            Value::String(known.fold(text.clone(), |text, (name, value)| text.replace(name, value)))
        }
        Value::Array(items) => items.iter().map(|item| filled(item, variables)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), filled(value, variables))).collect(),
        other => other.clone(),
    }
}

/// Whether an outcome is the one expected; else how it differs.
fn judge(step: &Value, outcome: &Outcome) -> Result<(), String> {
    match (outcome, step["refused"].as_str()) {
        (Err((reason, message)), Some(expected)) if reason == expected && message.contains(text(step, "says")) => {
            Ok(())
        }
        (Ok(value), None) => {
            let found = match (step["at"].as_str(), step["count"] == true) {
                (Some(at), _) => value.pointer(at).cloned().unwrap_or_default(),
                (None, true) => json!(value.as_array().map_or(0, Vec::len)),
                (None, false) => value.clone(),
            };
            let expected = &step["expect"];
            let within = |found: &str| expected.as_str().is_some_and(|part| found.contains(part));
            if found == *expected || (step["do"] == "logs" && within(found.as_str().unwrap_or_default())) {
                return Ok(());
            }
            Err(format!("expected {expected}, found {found}"))
        }
        (outcome, _) => Err(format!("found {outcome:?}")),
    }
}

fn save(step: &Value, outcome: &Outcome, variables: &mut BTreeMap<String, String>) {
    let (Some(wanted), Ok(value)) = (step["save"].as_object(), outcome) else { return };
    for (name, pointer) in wanted {
        let found = pointer.as_str().and_then(|pointer| value.pointer(pointer)).and_then(Value::as_str);
        let found = found.unwrap_or_else(|| panic!("{step}: nothing at {pointer} in {value}"));
        variables.insert(format!("${name}"), found.to_owned());
    }
}
