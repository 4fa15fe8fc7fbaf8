//! The embedded cluster as a user meets it: `weft up --check` with all its faults, stock kubectl of every version that lies
//! here, a supervisor that dies, `weft down`.
//!
//! One test but for the refusals, since one cluster serves all of it. The cluster has a name and ports of its own and goes also when the
//! test fails.
#[path = "cluster/host.rs"]
mod host;
#[path = "cluster/kubectl.rs"]
mod kubectl;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/supervisor.rs"]
mod supervisor;

use tests::Cluster;

#[test]
fn up_check_kubectl_down() {
    let cluster = Cluster::with_guestbook("test", &["--nodes", "2", "--check"]);
    assert!(cluster.said().contains("checks hold"), "{}", cluster.said());
    for program in tests::kubectl::all() {
        kubectl::works_as_anywhere(cluster.kubectl(&program));
    }
    supervisor::dies_and_is_replaced(cluster.name());
    let spec = local_cluster::Cluster::running(cluster.name()).expect("the cluster runs").spec;
    cluster.down();
    let listening = host::listeners();
    for port in spec.publish.iter().map(|publish| publish.host).chain([spec.api_port]) {
        // Others may come and go on the same machine.
        assert!(!listening.contains(&format!("0100007F:{port:04X}")), "weft down left the listener on {port}");
    }
}
