//! Clients that are not ours drive our API server: kubectl, kube-rs and the Python client from PyPI.
//!
//! One scenario (`strangers/scenario.yaml`), a driver for each client, one expectation for all of them. They share a
//! cluster of one node, each in a namespace of its own, at the same time.
#[path = "strangers/kubectl.rs"]
mod kubectl;
#[path = "strangers/python.rs"]
mod python;
#[path = "strangers/rust.rs"]
mod rust;

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Cluster, cluster::may_run};

/// A step's answer, or the reason and the message of the refusal.
type Outcome = Result<Value, (String, String)>;

/// A client.
trait Driver: Send {
    fn step(&mut self, step: &Value) -> Outcome;
}

/// How long a step that holds eventually may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn strangers_get_one_answer() {
    if !may_run() {
        return;
    }
    let cluster = Cluster::up("strangers", &["guestbook-1.0"], &["--nodes", "1"]);
    let config = cluster.kubeconfig();
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
    let programs = tests::kubectl::all();
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
