//! What `weft up` says at the end: where it answers, what to try, what is not there. Pure.

use local_cluster::Cluster;

/// The report; every command in it works when pasted.
pub(crate) fn text(cluster: &Cluster, times: &str) -> String {
    let name = &cluster.spec.name;
    let kubeconfig = cluster.paths.admin_kubeconfig();
    let kubeconfig = kubeconfig.display();
    let weft = std::env::current_exe().map_or_else(|_| "weft".to_owned(), |path| path.display().to_string());
    let mut lines = vec![format!("\ncluster {name} runs: {} nodes", cluster.spec.nodes)];
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
}
