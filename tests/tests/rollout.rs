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

#[test]
fn rollouts_with_kubectl() {
    let cluster = lab::Cluster::up();
    for kubectl in cluster.kubectls() {
        deployment::rolls(&kubectl);
        daemonset::rolls(&kubectl);
        deletion::takes_or_leaves(&kubectl);
        drain::empties_a_node(&kubectl);
        kubectl.run(&format!("delete namespace {} --timeout=60s", kubectl.namespace), &["deleted"]);
    }
}
