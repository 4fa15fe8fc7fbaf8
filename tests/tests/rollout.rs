//! Rollouts as users do them, with stock kubectl: Deployments, DaemonSets, what deletion leaves, and an emptied node.
//!
//! One test, since one cluster serves all of it. Each version of kubectl works in a namespace of its own. Requests under
//! load are the check's (`weft check`), which `cluster.rs` runs.
#[path = "rollout/daemonset.rs"]
mod daemonset;
#[path = "rollout/deletion.rs"]
mod deletion;
#[path = "rollout/deployment.rs"]
mod deployment;
#[path = "rollout/drain.rs"]
mod drain;
#[path = "rollout/lab.rs"]
mod lab;

use tests::{Cluster, kubectl::versions};

#[test]
fn rollouts_with_kubectl() {
    let cluster = Cluster::up("rollout", &["probe-1.0"], &["--nodes", "2"]);
    // The oldest and the newest that must work.
    for (number, program) in versions(&[27, 33]).iter().enumerate() {
        let kubectl = cluster.kubectl(program).within(&format!("rollout-{number}"));
        kubectl.says(&format!("create namespace {}", kubectl.namespace), &["created"]);
        deployment::rolls(&kubectl);
        daemonset::rolls(&kubectl);
        deletion::takes_or_leaves(&kubectl);
        drain::empties_a_node(&kubectl);
        kubectl.says(&format!("delete namespace {} --timeout=60s", kubectl.namespace), &["deleted"]);
    }
}
