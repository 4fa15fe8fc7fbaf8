//! Which crate may depend on which. A new edge is a reviewed change of the table here.

use std::collections::BTreeSet;

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use super::Findings;
use crate::places::Places;

/// A crate and ours that it may use. `*` is any.
const EDGES: [(&str, &[&str]); 22] = [
    ("abi", &[]),
    ("datapath", &["abi"]),
    ("ebpf", &["abi", "datapath"]),
    ("objects", &[]),
    ("policy", &["abi", "objects"]),
    ("proxy", &["abi", "objects"]),
    ("agent-api", &[]),
    ("agent", &["abi", "objects", "policy", "proxy", "agent-api"]),
    ("cni-plugin", &["agent-api"]),
    ("api", &["objects"]),
    ("controllers", &["objects"]),
    ("control-plane", &["api", "controllers", "objects"]),
    ("node", &["objects"]),
    ("container-helper", &[]),
    ("local-cluster", &[]),
    ("cli", &["*"]),
    ("tests", &["*"]),
    ("fuzz", &["abi", "datapath", "objects", "agent-api", "agent", "cni-plugin"]),
    ("bench", &["*"]),
    ("xtask", &[]),
    ("guestbook", &[]),
    ("probe", &[]),
];

/// Edges of tests alone: the compilers' tables are tried on the datapath itself, the runtime with the real helper.
const TEST_EDGES: [(&str, &[&str]); 4] =
    [("node", &["container-helper"]), ("policy", &["datapath"]), ("proxy", &["datapath"]), ("agent", &["datapath"])];

/// Who may use the Kubernetes client: the server never does.
const KUBE_USERS: [&str; 5] = ["agent", "node", "cli", "tests", "bench"];

/// Who may use `anyhow`: programs' main files, not libraries.
const ANYHOW_USERS: [&str; 4] = ["cli", "tests", "xtask", "bench"];

pub(super) fn check(places: &Places, findings: &mut Findings) -> anyhow::Result<()> {
    let mut command = MetadataCommand::new();
    command.manifest_path(places.root.join("Cargo.toml")).env_remove("CARGO");
    let metadata = command.exec().context("cargo metadata")?;
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    for package in metadata.workspace_packages() {
        check_package(package, &ours, findings);
    }
    check_graph(&metadata, findings);
    Ok(())
}

fn check_package(package: &Package, ours: &BTreeSet<&str>, findings: &mut Findings) {
    let name = package.name.as_str();
    let Some(allowed) = row(&EDGES, name) else {
        findings.failures.push(format!("crate {name} has no row in xtask/src/tidy/edges.rs"));
        return;
    };
    for dependency in &package.dependencies {
        let to = dependency.name.as_str();
        let in_tests = dependency.kind == DependencyKind::Development;
        // A crate's own tests may turn on its features by naming it.
        let test_edge = in_tests && (to == name || row(&TEST_EDGES, name).is_some_and(|extra| extra.contains(&to)));
        let fine = allowed.contains(&"*") || allowed.contains(&to) || test_edge || !ours.contains(to);
        if !fine {
            findings.failures.push(format!("{name} may not depend on {to}: the edges are in xtask/src/tidy/edges.rs"));
        }
        if (to == "kube" || to == "k8s-openapi") && !KUBE_USERS.contains(&name) {
            findings.failures.push(format!("{name} may not depend on {to}: only {} do", KUBE_USERS.join(", ")));
        }
        if to == "anyhow" && !in_tests && !ANYHOW_USERS.contains(&name) {
            findings.failures.push(format!("{name} may not depend on anyhow: libraries have errors of their own"));
        }
    }
}

fn row(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(from, _)| *from == name).map(|(_, to)| *to)
}

/// One crypto library: ring. The other big one would come in by a default feature.
fn check_graph(metadata: &Metadata, findings: &mut Findings) {
    for package in &metadata.packages {
        if package.name.as_str() == "aws-lc-sys" {
            findings.failures.push("aws-lc-sys is in the graph: some dependency has its default crypto on".to_owned());
        }
    }
}
