//! The embedded cluster as a user meets it: `weft up --check` with all its faults, stock kubectl of every version that lies
//! here, a supervisor that dies, `weft down`.
//!
//! One test but for the refusals, since one cluster serves all of it. The cluster has a name and ports of its own and goes also when the
//! test fails.
#[path = "cluster/host.rs"]
mod host;
#[path = "cluster/kubectl.rs"]
mod kubectl;
#[path = "cluster/place.rs"]
mod place;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/supervisor.rs"]
mod supervisor;

use place::{program, succeeded, traces, up};

#[test]
fn up_check_kubectl_down() {
    let name = format!("test-{}", std::process::id());
    let (cluster, text) = up(&name, &["--nodes", "2", "--check"]);
    assert!(text.contains("checks hold"), "{text}");
    for kubectl in kubectl::versions() {
        kubectl::works_as_anywhere(&kubectl, &cluster.kubeconfig());
    }
    supervisor::dies_and_is_replaced(&name);
    let spec = local_cluster::Cluster::running(&name).expect("the cluster runs").spec;
    cluster.down();
    let listening = host::listeners();
    for port in spec.publish.iter().map(|publish| publish.host).chain([spec.api_port]) {
        // Others may come and go on the same machine.
        assert!(!listening.contains(&format!("0100007F:{port:04X}")), "weft down left the listener on {port}");
    }
}
