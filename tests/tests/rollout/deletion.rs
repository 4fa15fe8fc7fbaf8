//! What goes with its owner, and what stays: background, foreground, orphan, adoption.
use super::lab::{Kubectl, workload};

pub(crate) fn takes_or_leaves(kubectl: &Kubectl) {
    let manifest = workload("Deployment", "tree", "replicas: 2");
    kubectl.apply(&manifest);
    kubectl.rolled_out("deploy/tree");
    let (sets, pods) = (kubectl.names("rs", "app=tree"), kubectl.names("pods", "app=tree"));

    // Orphans stay as they are, and a new owner of the same selector and template takes them in.
    kubectl.run("delete deploy tree --cascade=orphan", &["deleted"]);
    kubectl.until(&owners(&sets[0]), |text| text == "/");
    assert_eq!(kubectl.names("pods", "app=tree"), pods);
    kubectl.apply(&manifest);
    kubectl.rolled_out("deploy/tree");
    kubectl.run(&owners(&sets[0]), &["Deployment/tree"]);
    assert_eq!(kubectl.names("pods", "app=tree"), pods, "adopted, not replaced");

    released(kubectl, &pods);

    // Foreground: when the owner is gone, so is everything below.
    kubectl.run("delete deploy tree --cascade=foreground --timeout=60s", &["deleted"]);
    assert_eq!(kubectl.names("rs,pods", "app=tree"), Vec::<String>::new());
}

fn owners(object: &str) -> String {
    format!("get {object} -o jsonpath={{.metadata.ownerReferences[*].kind}}/{{.metadata.ownerReferences[*].name}}")
}

/// A pod that no longer fits the selector is let go and replaced.
fn released(kubectl: &Kubectl, pods: &[String]) {
    kubectl.run(&format!("label {} app=free --overwrite", pods[0]), &["labeled"]);
    kubectl.until(&owners(&pods[0]), |text| text == "/");
    kubectl.until("get deploy tree", |text| text.contains("2/2"));
    kubectl.run(&format!("delete {} --timeout=60s", pods[0]), &["deleted"]);
}
