//! DaemonSets: a pod a node, updates with and without a surge, OnDelete, history and undo.
use tests::Kubectl;

use super::lab::{names, rolled_out, workload};

pub(crate) fn rolls(kubectl: &Kubectl) {
    kubectl.apply(&workload("DaemonSet", "agent", "minReadySeconds: 0"));
    rolled_out(kubectl, "ds/agent");
    kubectl.says(
        "get ds agent",
        &["DESIRED", "UP-TO-DATE", "NODE SELECTOR", "2         2         2       2            2"],
    );
    let nodes = kubectl.says("get pods -l app=agent -o jsonpath={.items[*].spec.nodeName}", &["node-1", "node-2"]);
    assert_eq!(nodes.split_whitespace().count(), 2);
    kubectl.says("set env ds/agent V=2", &["updated"]);
    rolled_out(kubectl, "ds/agent");
    kubectl.says("rollout history ds/agent", &["1         <none>", "2         <none>"]);
    kubectl.says("rollout history ds/agent --revision=1", &["revision #1", "V:\t1"]);
    kubectl.says("rollout undo ds/agent --to-revision=1", &["rolled back"]);
    rolled_out(kubectl, "ds/agent");
    kubectl.says("rollout history ds/agent", &["2         <none>", "3         <none>"]);
    kubectl.says("rollout restart ds/agent", &["restarted"]);
    rolled_out(kubectl, "ds/agent");
    surging(kubectl);
    on_delete(kubectl);
    selective(kubectl);
    kubectl.says("delete ds agent --timeout=60s", &["deleted"]);
}

/// With a surge no node is ever without a pod.
fn surging(kubectl: &Kubectl) {
    let strategy = r#"{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1,"maxUnavailable":0}}"#;
    kubectl.says(&format!(r#"patch ds agent -p {{"spec":{{"updateStrategy":{strategy}}}}}"#), &["patched"]);
    let old = names(kubectl, "pods", "app=agent");
    kubectl.says("set env ds/agent V=surge", &["updated"]);
    let ready = "get pods -l app=agent -o custom-columns=N:.spec.nodeName,P:.metadata.name,R:.status.conditions[?(@.type==\"Ready\")].status";
    kubectl.until(ready, |text| {
        let on = |node: &str| text.lines().any(|line| line.starts_with(node) && line.trim_end().ends_with("True"));
        assert!(on("node-1") && on("node-2"), "a node without a ready pod:\n{text}");
        !old.iter().any(|pod| text.contains(pod.trim_start_matches("pod/")))
    });
    rolled_out(kubectl, "ds/agent");
}

/// Nothing is replaced but by hand.
fn on_delete(kubectl: &Kubectl) {
    let strategy = r#"{"type":"OnDelete","rollingUpdate":null}"#;
    kubectl.says(&format!(r#"patch ds agent -p {{"spec":{{"updateStrategy":{strategy}}}}}"#), &["patched"]);
    kubectl.says("set env ds/agent V=on-delete", &["updated"]);
    kubectl.until("get ds agent", |text| text.contains("2         2         2       0            2"));
    kubectl.refused("rollout status ds/agent", "only available for RollingUpdate");
    let pods = names(kubectl, "pods", "app=agent");
    kubectl.says(&format!("delete {} --timeout=60s", pods[0]), &["deleted"]);
    kubectl.until("get ds agent", |text| text.contains("2         2         2       1            2"));
}

/// A node that stops being selected loses its pod, and gets one again.
fn selective(kubectl: &Kubectl) {
    kubectl.says("label nodes node-1 node-2 place=here --overwrite", &["labeled"]);
    let selector = r#"{"spec":{"template":{"spec":{"nodeSelector":{"place":"here"}}}}}"#;
    kubectl.says(&format!("patch ds agent -p {selector}"), &["patched"]);
    kubectl.says("label node node-2 place-", &[]);
    kubectl
        .until("get ds agent -o jsonpath={.status.desiredNumberScheduled}/{.status.currentNumberScheduled}", |text| {
            text == "1/1"
        });
    kubectl.until("get pods -l app=agent -o jsonpath={.items[*].spec.nodeName}", |text| text == "node-1");
    kubectl.says("label node node-2 place=here", &["labeled"]);
    kubectl
        .until("get ds agent -o jsonpath={.status.desiredNumberScheduled}/{.status.numberReady}", |text| text == "2/2");
    kubectl.says("label nodes node-1 node-2 place-", &[]);
}
