//! Stock kubectl: the scenario's steps as its users type them.
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Driver, Outcome, text};

pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) namespace: String,
}

impl Driver for Kubectl {
    fn step(&mut self, step: &Value) -> Outcome {
        let dry_run = if step["dryRun"] == true { "--dry-run=server" } else { "--dry-run=none" };
        let (kind, name) = (plain(text(step, "type")), text(step, "name"));
        match text(step, "do") {
            "create" => self.object(&["create", "-f", "-", dry_run], &step["object"]),
            "replace" => self.object(&["replace", "-f", "-"], &step["object"]),
            "get" => self.json(&["get", &kind, name]),
            "patch" => {
                let patch = step["patch"].to_string();
                self.json(&["patch", &kind, name, "--type", text(step, "by"), "--patch", &patch, dry_run])
            }
            "list" => self.list(step, &kind),
            "watch" => self.watch(step),
            "scale" => {
                let replicas = format!("--replicas={}", step["replicas"]);
                self.run(&["scale", "deployment", name, &replicas], "")?;
                Ok(self.json(&["get", "deployment", name])?["spec"]["replicas"].take())
            }
            "logs" => self.run(&["logs", name], "").map(Value::from),
            "evict" => self.evict(name),
            "token" => self.run(&["create", "token", name], "").map(|token| json!(token.matches('.').count() == 2)),
            "may" => {
                let answer = self.run(&["auth", "can-i", text(step, "verb"), text(step, "resource")], "");
                answer.map(|answer| json!(answer.trim() == "yes"))
            }
            "delete" => {
                let cascade = match text(step, "propagation") {
                    "" => "background".to_owned(),
                    policy => policy.to_lowercase(),
                };
                self.run(&["delete", &kind, name, "--wait=false", &format!("--cascade={cascade}")], "")
                    .map(|_| json!(true))
            }
            unknown => panic!("the scenario does {unknown}"),
        }
    }
}

/// `apps/v1/Deployment` → `deployment`.
fn plain(kind: &str) -> String {
    kind.rsplit('/').next().unwrap_or(kind).to_lowercase()
}

impl Kubectl {
    fn run(&self, arguments: &[&str], input: &str) -> Result<String, (String, String)> {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.home()).env("KUBECTL_KUBERC", "false");
        command.args(["--namespace", &self.namespace]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(refusal(&text(output.stderr))) }
    }

    /// kubectl caches what the server serves.
    fn home(&self) -> &Path {
        self.kubeconfig.parent().expect("it is in a directory")
    }

    fn json(&self, arguments: &[&str]) -> Outcome {
        let text = self.run(&[arguments, &["--output", "json"]].concat(), "")?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}")))
    }

    fn object(&self, arguments: &[&str], object: &Value) -> Outcome {
        let text = self.run(&[arguments, &["--output", "json"]].concat(), &object.to_string())?;
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}")))
    }

    fn list(&self, step: &Value, kind: &str) -> Outcome {
        let limit = format!("--chunk-size={}", step["limit"].as_u64().unwrap_or(500));
        let selectors = ["--selector", text(step, "labels"), "--field-selector", text(step, "fields")];
        let list = self.json(&[&["get", kind, &limit], &selectors[..]].concat())?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().map(|item| item["metadata"]["name"].clone()).collect())
    }

    /// kubectl's own watch begins at a list of its own; the path is what says where.
    fn watch(&self, step: &Value) -> Outcome {
        let (version, kind) = text(step, "type").rsplit_once('/').expect("apiVersion/Kind");
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let resource = format!("{}s", kind.to_lowercase());
        let query = format!("watch=true&timeoutSeconds=1&resourceVersion={}", text(step, "from"));
        let path = format!("{root}/{version}/namespaces/{}/{resource}?{query}", self.namespace);
        let events = self.run(&["get", "--raw", &path], "")?;
        let event = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("an event is JSON");
            format!("{} {}", text(&event, "type"), text(&event["object"]["metadata"], "name"))
        };
        Ok(events.lines().map(event).collect())
    }

    /// Only `drain` evicts, and it takes a whole node.
    fn evict(&self, name: &str) -> Outcome {
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", self.namespace);
        let metadata = json!({"name": name, "namespace": self.namespace});
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
        self.run(&["create", "--raw", &path, "-f", "-"], &eviction.to_string()).map(|_| json!(true))
    }
}

/// `Error from server (Reason): message`, or `The Kind "name" is invalid: …`.
fn refusal(text: &str) -> (String, String) {
    let known = text.split_once("Error from server (").and_then(|(_, rest)| rest.split_once("): "));
    let invalid = text.contains("is invalid: ");
    let (reason, message) = known.unwrap_or((if invalid { "Invalid" } else { "" }, text));
    (reason.to_owned(), message.trim().to_owned())
}
