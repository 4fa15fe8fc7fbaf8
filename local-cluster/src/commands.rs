//! The command lines of the cluster's processes. Pure: where each flag's value comes from is readable in one place.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    os::fd::RawFd,
    path::Path,
};

use crate::{
    family::{Family, Station},
    paths::{self, Paths},
    spec::{API_PORT, MAX_NODES, Publish, Spec},
};

/// Inside a node: the agent's socket.
pub const AGENT_SOCKET: &str = "/run/weft/agent.sock";
/// Inside a node: where CNI configuration and plugins are.
pub const CNI_CONF_DIR: &str = "/run/weft/cni/net.d";
/// Inside a node: where CNI plugins are.
pub const CNI_BIN_DIR: &str = "/run/weft/cni/bin";

/// Where an agent of a cluster with IPv6 serves its metrics; its own default is IPv4 alone.
const METRICS_OF_ALL_FAMILIES: &str = "[::]:9465";

/// Address of the API server inside the fabric, in the primary family.
pub fn server_address(spec: &Spec) -> SocketAddr {
    SocketAddr::new(first_node(spec), API_PORT)
}

/// The first node's address in the primary family.
fn first_node(spec: &Spec) -> IpAddr {
    spec.ip_family.primary().address(Station::Node(1))
}

/// `weft server`, in node-1's network namespace.
pub fn server(spec: &Spec, paths: &Paths, api_fd: RawFd) -> Vec<OsString> {
    let families = spec.ip_family;
    let mut line = Line::new("server");
    line.flag("--data-dir", paths.server());
    for address in families.addresses(Station::Node(1)) {
        line.flag("--listen", SocketAddr::new(address, API_PORT).to_string());
    }
    line.flag("--listen-fd", api_fd.to_string());
    line.flag("--advertise-address", first_node(spec).to_string());
    for address in (1..=MAX_NODES).flat_map(|number| families.addresses(Station::Node(number))) {
        line.flag("--tls-san", address.to_string());
    }
    line.flag("--service-cidr", families.service_cidr());
    line.flag("--cluster-cidr", families.cluster_cidr());
    if families.has(Family::V4) {
        line.flag("--node-cidr-mask-size", "24");
    }
    if families.has(Family::V6) {
        line.flag("--node-cidr-mask-size-ipv6", "64");
    }
    line.0
}

/// `weft node`, inside its node.
pub fn node(spec: &Spec, paths: &Paths, node: &str, number: u8) -> Vec<OsString> {
    let files = paths.node(node);
    let mut line = Line::new("node");
    line.flag("--node-name", node);
    line.flag("--node-ip", spec.ip_family.node_ip(number));
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
pub fn agent(spec: &Spec, paths: &Paths, node: &str) -> Vec<OsString> {
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
    line.flag("--cluster-cidr", spec.ip_family.cluster_cidr());
    line.flag("--service-cidr", spec.ip_family.service_cidr());
    if spec.ip_family.has(Family::V6) {
        line.flag("--metrics-listen", METRICS_OF_ALL_FAMILIES);
    }
    line.0.extend(spec.agent_args.iter().map(OsString::from));
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
pub fn publish(spec: &Spec, published: &[(RawFd, Publish)]) -> Vec<OsString> {
    let mut line = Line::new("publish");
    for (fd, publish) in published {
        line.flag("--map", format!("{fd}={}", SocketAddr::new(first_node(spec), publish.node)));
    }
    line.0
}

/// `weft pki kubeconfig`: a user's credentials in one file.
pub fn pki_kubeconfig(paths: &Paths, server: SocketAddr, user: &str, groups: &[&str], out: &Path) -> Vec<OsString> {
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
pub fn pki_serving(spec: &Spec, paths: &Paths, node: &str, number: u8) -> Vec<OsString> {
    let files = paths.node(node);
    let mut line = Line::new("pki");
    line.0.push("serving".into());
    line.flag("--data-dir", paths.server());
    line.flag("--common-name", format!("system:node:{node}"));
    line.flag("--san", node);
    for address in spec.ip_family.addresses(Station::Node(number)) {
        line.flag("--san", address.to_string());
    }
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
    use crate::family::IpFamily;

    #[track_caller]
    fn check(line: &[OsString], expected: &str) {
        let text: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        assert!(text.join(" ").contains(expected), "{text:?} has no {expected:?}");
    }

    #[test]
    fn lines() {
        let (spec, paths) = (Spec::new("c"), Paths::new("c"));
        check(&server(&spec, &paths, 7), "server --data-dir /var/lib/weft/clusters/c/server --listen 172.31.0.11:6443");
        check(&server(&spec, &paths, 7), "--listen-fd 7");
        check(&node(&spec, &paths, "node-2", 2), "--node-ip 172.31.0.12 ");
        check(&node(&spec, &paths, "node-2", 2), "--cgroup-root weft/c/node-2");
        check(&agent(&spec, &paths, "node-2"), "--cni-plugin /var/lib/weft/clusters/c/bin/weft-cni");
        check(&publish(&spec, &[(9, Publish { host: 1, node: 30080 })]), "--map 9=172.31.0.11:30080");
        let server = server_address(&spec);
        check(&pki_kubeconfig(&paths, server, "u", &["a", "b"], Path::new("/f")), "--server https://172.31.0.11:6443");
        check(&pki_kubeconfig(&paths, server, "u", &["a", "b"], Path::new("/f")), "--group a --group b --out /f");
        check(&pki_serving(&spec, &paths, "node-1", 1), "--common-name system:node:node-1");
    }

    /// Earlier builds' agents and servers took these flags and no others.
    #[test]
    fn an_ipv4_cluster_has_the_lines_that_it_always_had() {
        let (spec, paths) = (Spec::new("c"), Paths::new("c"));
        check(
            &server(&spec, &paths, 7),
            "--tls-san 172.31.0.20 --service-cidr 10.96.0.0/16 --cluster-cidr 10.244.0.0/16 --node-cidr-mask-size 24",
        );
        for line in [server(&spec, &paths, 7), agent(&spec, &paths, "node-1"), node(&spec, &paths, "node-1", 1)] {
            let foreign = |word: &OsString| word.to_string_lossy().contains("fd00") || word == "--metrics-listen";
            assert!(!line.iter().any(foreign), "{line:?}");
        }
    }

    #[test]
    fn agents_get_the_flags_of_the_cluster() {
        let spec = Spec { agent_args: vec!["--routing=auto".into(), "--accept-native".into()], ..Spec::new("c") };
        check(&agent(&spec, &Paths::new("c"), "node-1"), " --routing=auto --accept-native");
    }

    #[test]
    fn lines_of_other_families() {
        let paths = Paths::new("c");
        let dual = Spec { ip_family: IpFamily::Dual, ..Spec::new("c") };
        check(&server(&dual, &paths, 7), "--listen 172.31.0.11:6443 --listen [fd00:172:31::11]:6443 --listen-fd 7");
        check(
            &server(&dual, &paths, 7),
            "--advertise-address 172.31.0.11 --tls-san 172.31.0.11 --tls-san fd00:172:31::11",
        );
        check(
            &server(&dual, &paths, 7),
            "--service-cidr 10.96.0.0/16,fd00:10:96::/112 --cluster-cidr 10.244.0.0/16,fd00:10:244::/56",
        );
        check(&server(&dual, &paths, 7), "--node-cidr-mask-size 24 --node-cidr-mask-size-ipv6 64");
        check(&node(&dual, &paths, "node-2", 2), "--node-ip 172.31.0.12,fd00:172:31::12 ");
        check(&agent(&dual, &paths, "node-2"), "--cluster-cidr 10.244.0.0/16,fd00:10:244::/56");
        check(&pki_serving(&dual, &paths, "node-2", 2), "--san 172.31.0.12 --san fd00:172:31::12");
        let v6 = Spec { ip_family: IpFamily::Ipv6, ..Spec::new("c") };
        check(
            &server(&v6, &paths, 7),
            "--listen [fd00:172:31::11]:6443 --listen-fd 7 --advertise-address fd00:172:31::11",
        );
        check(&server(&v6, &paths, 7), "--cluster-cidr fd00:10:244::/56 --node-cidr-mask-size-ipv6 64");
        check(&publish(&v6, &[(9, Publish { host: 1, node: 30080 })]), "--map 9=[fd00:172:31::11]:30080");
        let kubeconfig = pki_kubeconfig(&paths, server_address(&v6), "u", &[], Path::new("/f"));
        check(&kubeconfig, "--server https://[fd00:172:31::11]:6443");
    }
}
