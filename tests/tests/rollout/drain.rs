//! Cordon, drain within a budget, uncordon.
use tests::Kubectl;

use super::lab::{rolled_out, workload};

const BUDGET: &str = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: { name: db }\nspec:\n  minAvailable: MIN\n  selector: { matchLabels: { app: db } }\n";
const NODES: &str = "get pods -l app=db -o jsonpath={.items[*].spec.nodeName}";

pub(crate) fn empties_a_node(kubectl: &Kubectl) {
    kubectl.apply(&workload("Deployment", "db", "replicas: 4"));
    kubectl.apply(&workload("DaemonSet", "agent", "minReadySeconds: 0"));
    rolled_out(kubectl, "deploy/db");
    rolled_out(kubectl, "ds/agent");
    kubectl.says(NODES, &["node-1", "node-2"]);

    // A budget without room: nothing goes, and kubectl says which budget.
    kubectl.apply(&BUDGET.replace("MIN", "100%"));
    kubectl.until("get pdb db -o jsonpath={.status.disruptionsAllowed}/{.status.expectedPods}", |text| text == "0/4");
    kubectl.refused("drain node-2", "cannot delete DaemonSet-managed Pods");
    kubectl.refused("drain node-2 --ignore-daemonsets --timeout=3s", "violate the pod's disruption budget");
    kubectl.says("get node node-2", &["Ready,SchedulingDisabled"]);
    kubectl.says(NODES, &["node-2"]);

    // Room for one at a time: all go, and never more than one is missing.
    kubectl.apply(&BUDGET.replace("MIN", "75%"));
    kubectl.until("get pdb db -o jsonpath={.status.disruptionsAllowed}", |text| text == "1");
    kubectl.says("drain node-2 --ignore-daemonsets --timeout=60s", &["evicted", "node/node-2 drained"]);
    kubectl.until("get deploy db", |text| text.contains("4/4"));
    let nodes = kubectl.until(NODES, |text| !text.contains("node-2"));
    assert_eq!(nodes.split_whitespace().count(), 4, "{nodes}");
    kubectl.says("get pods -l app=agent -o jsonpath={.items[*].spec.nodeName}", &["node-2"]);

    kubectl.says("uncordon node-2", &["uncordoned"]);
    kubectl.says("scale deploy db --replicas=8", &["scaled"]);
    kubectl.until(NODES, |text| text.contains("node-2"));
    kubectl.says("delete deploy db --timeout=60s", &["deleted"]);
    kubectl.says("delete ds agent --timeout=60s", &["deleted"]);
}
