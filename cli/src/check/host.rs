//! The host is as it was before the cluster came, but for the listeners on 127.0.0.1 that `up` printed. What other programs
//! open and close meanwhile is theirs.
use local_cluster::{Cluster, host::HostState};

use super::report::Report;

/// Compares the host now with what `start` wrote down.
pub(super) fn unchanged(cluster: &Cluster, report: &mut Report) {
    let promise = "the host's links, addresses, routes, rules, sysctls and listeners are as before";
    let before = HostState::load(&cluster.paths.host_before());
    let broken = match (before, HostState::read()) {
        (Ok(before), Ok(now)) => {
            before.changes_by(&now, &cluster.spec.name).into_iter().filter(|change| !ours(cluster, change)).collect()
        }
        (Err(error), _) => vec![format!("what the host was before is not known: {error}")],
        (_, Err(error)) => vec![error.to_string()],
    };
    report.add(promise, 1, broken);
}

/// A listener that the cluster was asked for.
fn ours(cluster: &Cluster, change: &str) -> bool {
    let ports = cluster.spec.publish.iter().map(|publish| publish.host).chain([cluster.spec.api_port]);
    ports.into_iter().any(|port| change.starts_with(&format!("+ listener tcp 127.0.0.1 port {port} of ")))
}
