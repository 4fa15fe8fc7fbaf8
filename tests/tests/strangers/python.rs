//! The Python client from PyPI, in a process that takes a step a line.
use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use crate::{Driver, Outcome};

/// The client, where `cargo xtask setup` puts it.
pub(crate) fn packages() -> Option<PathBuf> {
    let at = |variable: &str, below: &str| Some(PathBuf::from(env::var_os(variable)?).join(below));
    let cache = at("WEFT_CACHE", "").or_else(|| at("XDG_CACHE_HOME", "weft")).or_else(|| at("HOME", ".cache/weft"))?;
    Some(cache.join("python")).filter(|packages| packages.join("kubernetes").exists())
}

pub(crate) struct Python {
    child: Child,
    steps: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Python {
    pub(crate) fn start(packages: &Path, kubeconfig: &Path, namespace: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers/driver.py");
        let mut python = Command::new("python3");
        python.arg(script).arg(kubeconfig).arg(namespace).env("PYTHONPATH", packages);
        // Discovery is kept below it, by the host's name alone.
        python.env("TMPDIR", kubeconfig.parent().expect("it is in a directory"));
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let steps = child.stdin.take().expect("it is piped");
        let outcomes = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, steps, outcomes }
    }
}

impl Driver for Python {
    fn step(&mut self, step: &Value) -> Outcome {
        writeln!(self.steps, "{step}").expect("the driver reads");
        let mut line = String::new();
        self.outcomes.read_line(&mut line).expect("the driver answers");
        let mut outcome: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{step}: the driver ended"));
        match outcome.get("reason") {
            None => Ok(outcome["value"].take()),
            Some(reason) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                Err((text(reason), text(&outcome["message"])))
            }
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends by itself when there are no more steps; not when a step has failed.
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}
