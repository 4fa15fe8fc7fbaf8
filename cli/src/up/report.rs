//! What `weft up` says at the end: where it answers, what to try, what is not there. Pure.

use local_cluster::{Cluster, IpFamily};

/// The report; every command in it works when pasted.
pub(crate) fn text(cluster: &Cluster, times: &str) -> String {
    let name = &cluster.spec.name;
    let kubeconfig = cluster.paths.admin_kubeconfig();
    let kubeconfig = kubeconfig.display();
    let weft = std::env::current_exe().map_or_else(|_| "weft".to_owned(), |path| path.display().to_string());
    let families = match cluster.spec.ip_family {
        IpFamily::Ipv4 => "",
        IpFamily::Ipv6 => ", IPv6 alone",
        IpFamily::Dual => ", IPv4 and IPv6",
    };
    let mut lines = vec![format!("\ncluster {name} runs: {} nodes{families}", cluster.spec.nodes)];
    for publish in &cluster.spec.publish {
        lines.push(format!("  URL          http://127.0.0.1:{}/  (NodePort {})", publish.host, publish.node));
    }
    lines.push(format!("  API server   https://127.0.0.1:{}", cluster.spec.api_port));
    lines.push(format!("  kubeconfig   {kubeconfig}"));
    lines.push("\ntry next:".to_owned());
    lines.push(format!("  KUBECONFIG={kubeconfig} kubectl get pods -A -o wide"));
    if let Some(publish) = cluster.spec.publish.first() {
        lines.push(format!("  curl http://127.0.0.1:{}/", publish.host));
    }
    lines.push(format!("  {weft} monitor --cluster {name} --node node-1"));
    lines.push("\nnot there: pods have no way out of this machine, and there is no DNS in the cluster yet (use service variables).".to_owned());
    lines.push("nothing was added to the host's network but listeners on the 127.0.0.1 ports above.".to_owned());
    lines.push(format!("it keeps running; this removes every trace: {weft} down --name {name}"));
    lines.push(format!("\nwhere the time went:\n{times}"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use local_cluster::{Spec, paths::Paths, spec::Publish};

    use super::*;

    #[test]
    fn names_every_port() {
        let spec = Spec { publish: vec![Publish { host: 8080, node: 30080 }], ..Spec::new("weft") };
        let text = text(&Cluster { spec, paths: Paths::new("weft") }, "");
        for part in
            ["http://127.0.0.1:8080/", "https://127.0.0.1:16443", "/var/lib/weft/clusters/weft/admin.kubeconfig"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[track_caller]
    fn check_families(ip_family: IpFamily, expected: &str) {
        let spec = Spec { ip_family, ..Spec::new("weft") };
        let text = text(&Cluster { spec, paths: Paths::new("weft") }, "");
        assert_eq!(text.lines().nth(1), Some(expected));
    }

    #[test]
    fn names_the_families_where_they_are_not_the_usual_ones() {
        check_families(IpFamily::Ipv4, "cluster weft runs: 3 nodes");
        check_families(IpFamily::Ipv6, "cluster weft runs: 3 nodes, IPv6 alone");
        check_families(IpFamily::Dual, "cluster weft runs: 3 nodes, IPv4 and IPv6");
    }
}
