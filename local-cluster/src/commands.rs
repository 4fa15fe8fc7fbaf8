//! The command lines of the cluster's processes. Pure: where each flag's value comes from is readable in one place.

use std::{ffi::OsString, net::Ipv4Addr, os::fd::RawFd, path::Path};

use crate::{
    paths::{self, Paths},
    spec::{API_PORT, CLUSTER_CIDR, Publish, SERVICE_CIDR, Spec, node_address},
};

/// Inside a node: the agent's socket.
pub const AGENT_SOCKET: &str = "/run/weft/agent.sock";
/// Inside a node: where CNI configuration and plugins are.
pub const CNI_CONF_DIR: &str = "/run/weft/cni/net.d";
/// Inside a node: where CNI plugins are.
pub const CNI_BIN_DIR: &str = "/run/weft/cni/bin";

/// Address of the API server inside the fabric.
pub fn server_address() -> String {
    format!("{}:{API_PORT}", node_address(1))
}

/// `weft server`, in node-1's network namespace.
pub fn server(paths: &Paths, api_fd: RawFd) -> Vec<OsString> {
    let mut line = Line::new("server");
    line.flag("--data-dir", paths.server());
    line.flag("--listen", server_address());
    line.flag("--listen-fd", api_fd.to_string());
    line.flag("--advertise-address", node_address(1).to_string());
    for number in 1..=crate::spec::MAX_NODES {
        line.flag("--tls-san", node_address(number).to_string());
    }
    line.flag("--service-cidr", SERVICE_CIDR);
    line.flag("--cluster-cidr", CLUSTER_CIDR);
    line.flag("--node-cidr-mask-size", "24");
    line.0
}

/// `weft node`, inside its node.
pub fn node(spec: &Spec, paths: &Paths, node: &str, address: Ipv4Addr) -> Vec<OsString> {
    let files = paths.node(node);
    let mut line = Line::new("node");
    line.flag("--node-name", node);
    line.flag("--node-ip", address.to_string());
    line.flag("--kubeconfig", files.join("node.kubeconfig"));
    line.flag("--state-dir", files.join("node"));
    line.flag("--image-store", paths.images());
    // The nodes share the store, which nothing fills again but `weft image load`.
    line.flag("--image-gc-high-threshold", "100");
    line.flag("--cni-conf-dir", CNI_CONF_DIR);
    line.flag("--cni-bin-dir", CNI_BIN_DIR);
    line.flag("--serving-cert", files.join("serving.crt"));
    line.flag("--serving-key", files.join("serving.key"));
    line.flag("--client-ca", files.join("ca.crt"));
    line.flag("--cgroup-root", paths::cgroup(&spec.name).join(node));
    line.0
}

/// `weft agent`, inside its node.
pub fn agent(paths: &Paths, node: &str) -> Vec<OsString> {
    let files = paths.node(node);
    let mut line = Line::new("agent");
    line.flag("--node-name", node);
    line.flag("--kubeconfig", files.join("agent.kubeconfig"));
    line.flag("--state-dir", files.join("agent"));
    line.flag("--socket", AGENT_SOCKET);
    line.flag("--bpffs", "/sys/fs/bpf");
    line.flag("--cni-conf-dir", CNI_CONF_DIR);
    line.flag("--cni-bin-dir", CNI_BIN_DIR);
    line.flag("--cni-plugin", paths.programs().join("weft-cni"));
    line.flag("--cluster-cidr", CLUSTER_CIDR);
    line.flag("--service-cidr", SERVICE_CIDR);
    line.0
}

/// `weft node-init`, pid 1 of a node.
pub fn node_init(spec: &Spec, node: &str) -> Vec<OsString> {
    let mut line = Line::new("node-init");
    line.flag("--name", &spec.name);
    line.flag("--node", node);
    line.0
}

/// `weft publish`, in the outside namespace.
pub fn publish(published: &[(RawFd, Publish)]) -> Vec<OsString> {
    let mut line = Line::new("publish");
    for (fd, publish) in published {
        line.flag("--map", format!("{fd}={}:{}", node_address(1), publish.node));
    }
    line.0
}

/// `weft pki kubeconfig`: a user's credentials in one file.
pub fn pki_kubeconfig(paths: &Paths, server: &str, user: &str, groups: &[&str], out: &Path) -> Vec<OsString> {
    let mut line = Line::new("pki");
    line.0.push("kubeconfig".into());
    line.flag("--data-dir", paths.server());
    line.flag("--server", format!("https://{server}"));
    line.flag("--user", user);
    for group in groups {
        line.flag("--group", group);
    }
    line.flag("--out", out);
    line.0
}

/// `weft pki serving`: a node's serving certificate.
pub fn pki_serving(paths: &Paths, node: &str, address: Ipv4Addr) -> Vec<OsString> {
    let files = paths.node(node);
    let mut line = Line::new("pki");
    line.0.push("serving".into());
    line.flag("--data-dir", paths.server());
    line.flag("--common-name", format!("system:node:{node}"));
    line.flag("--san", node);
    line.flag("--san", address.to_string());
    line.flag("--out-cert", files.join("serving.crt"));
    line.flag("--out-key", files.join("serving.key"));
    line.0
}

/// `weft pki ca`: the cluster's CA certificate.
pub fn pki_ca(paths: &Paths, out: &Path) -> Vec<OsString> {
    let mut line = Line::new("pki");
    line.0.push("ca".into());
    line.flag("--data-dir", paths.server());
    line.flag("--out", out);
    line.0
}

struct Line(Vec<OsString>);

impl Line {
    fn new(command: &str) -> Line {
        Line(vec![command.into()])
    }

    fn flag(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) {
        self.0.push(name.into());
        self.0.push(value.as_ref().to_os_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &[OsString], expected: &str) {
        let text: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        assert!(text.join(" ").contains(expected), "{text:?} has no {expected:?}");
    }

    #[test]
    fn lines() {
        let (spec, paths) = (Spec::new("c"), Paths::new("c"));
        check(&server(&paths, 7), "server --data-dir /var/lib/weft/clusters/c/server --listen 172.31.0.11:6443");
        check(&server(&paths, 7), "--listen-fd 7");
        check(&node(&spec, &paths, "node-2", node_address(2)), "--node-ip 172.31.0.12 ");
        check(&node(&spec, &paths, "node-2", node_address(2)), "--cgroup-root weft/c/node-2");
        check(&agent(&paths, "node-2"), "--cni-plugin /var/lib/weft/clusters/c/bin/weft-cni");
        check(&publish(&[(9, Publish { host: 1, node: 30080 })]), "--map 9=172.31.0.11:30080");
        check(&pki_kubeconfig(&paths, "h:1", "u", &["a", "b"], Path::new("/f")), "--group a --group b --out /f");
        check(&pki_serving(&paths, "node-1", node_address(1)), "--common-name system:node:node-1");
    }
}
