//! What the scenarios apply, and what they wait for.
use std::{fs, path::Path};

use tests::Kubectl;

/// Waits for a rollout as a script does.
#[track_caller]
pub(crate) fn rolled_out(kubectl: &Kubectl, what: &str) {
    kubectl.says(&format!("rollout status {what} --timeout=60s"), &["successfully rolled out"]);
}

/// Names of what a selector finds.
#[track_caller]
pub(crate) fn names(kubectl: &Kubectl, kind: &str, selector: &str) -> Vec<String> {
    let text = kubectl.says(&format!("get {kind} -l {selector} -o name"), &[]);
    text.lines().map(ToOwned::to_owned).collect()
}

/// A Deployment or DaemonSet of the probe with label `app`, and more fields of its spec.
pub(crate) fn workload(kind: &str, name: &str, spec: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollout/workload.yaml"))
        .expect("the manifest lies beside this file")
        .replace("KIND", kind)
        .replace("NAME", name)
        .replace("SPEC", spec)
}
