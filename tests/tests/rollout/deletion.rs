//! What goes with its owner, and what stays: background, foreground, orphan, adoption.
use tests::Kubectl;

use super::lab::{names, rolled_out, workload};

pub(crate) fn takes_or_leaves(kubectl: &Kubectl) {
    let manifest = workload("Deployment", "tree", "replicas: 2");
    kubectl.apply(&manifest);
    rolled_out(kubectl, "deploy/tree");
    let (sets, pods) = (names(kubectl, "rs", "app=tree"), names(kubectl, "pods", "app=tree"));

    // Orphans stay as they are, and a new owner of the same selector and template takes them in.
    kubectl.says("delete deploy tree --cascade=orphan", &["deleted"]);
    kubectl.until(&owners(&sets[0]), |text| text == "/");
    assert_eq!(names(kubectl, "pods", "app=tree"), pods);
    kubectl.apply(&manifest);
    rolled_out(kubectl, "deploy/tree");
    kubectl.says(&owners(&sets[0]), &["Deployment/tree"]);
    assert_eq!(names(kubectl, "pods", "app=tree"), pods, "adopted, not replaced");

    released(kubectl, &pods);

    // Foreground: when the owner is gone, so is everything below.
    kubectl.says("delete deploy tree --cascade=foreground --timeout=60s", &["deleted"]);
    assert_eq!(names(kubectl, "rs,pods", "app=tree"), Vec::<String>::new());
}

fn owners(object: &str) -> String {
    format!("get {object} -o jsonpath={{.metadata.ownerReferences[*].kind}}/{{.metadata.ownerReferences[*].name}}")
}

/// A pod that no longer fits the selector is let go and replaced.
fn released(kubectl: &Kubectl, pods: &[String]) {
    kubectl.says(&format!("label {} app=free --overwrite", pods[0]), &["labeled"]);
    kubectl.until(&owners(&pods[0]), |text| text == "/");
    kubectl.until("get deploy tree", |text| text.contains("2/2"));
    kubectl.says(&format!("delete {} --timeout=60s", pods[0]), &["deleted"]);
}
