//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a pod. The texts are pure; writing them is the last function.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

const HOSTS: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";

/// The pod's host name: its `hostname`, else its name, at most 63 characters.
pub(crate) fn hostname(pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let name = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Whether the pod asks for a cluster DNS that this cluster does not have.
pub(crate) fn wants_cluster_dns(spec: &PodSpec) -> bool {
    match spec.dns_policy.as_deref() {
        Some("ClusterFirstWithHostNet") => true,
        Some("Default" | "None") => false,
        _ => spec.host_network != Some(true),
    }
}

/// The kubelet's event for such a pod.
pub(crate) fn missing_cluster_dns(pod: &Pod, spec: &PodSpec) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    format!(
        "pod: \"{}\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"{policy}\" policy. Falling back to \"Default\" policy.",
        crate::plan::full_name(pod)
    )
}

fn etc_hosts(pod: &Pod, spec: &PodSpec, ips: &[IpAddr], of_node: &str) -> String {
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{of_node}")
    } else {
        let name = hostname(pod);
        ips.iter().fold(HOSTS.to_owned(), |text, ip| format!("{text}{ip}\t{name}\n"))
    };
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t")));
    }
    text
}

/// Without a cluster DNS, every policy but `None` starts from the node's own file; `dnsConfig` adds to it.
fn resolv_conf(spec: &PodSpec, of_node: &str) -> String {
    let base = if spec.dns_policy.as_deref() == Some("None") { "" } else { of_node };
    let values = |key: &str| {
        base.lines()
            .filter_map(|line| line.strip_prefix(key))
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (mut servers, mut searches, mut options) = (values("nameserver "), values("search "), values("options "));
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.clone().unwrap_or_default());
        searches.extend(config.searches.clone().unwrap_or_default());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|old| old.split(':').next() != Some(&name));
            options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut text: String = servers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect();
    for (key, words) in [("search", searches), ("options", options)] {
        if !words.is_empty() {
            text.push_str(&format!("{key} {}\n", words.join(" ")));
        }
    }
    text
}

/// Writes the pod's three files into `dir`. Written in place, so that containers that have them mounted see the change.
pub(crate) fn write(dir: &Path, pod: &Pod, ips: &[IpAddr]) -> io::Result<()> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    fs::create_dir_all(dir)?;
    let of_node = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = if spec.host_network == Some(true) {
        of_node("/proc/sys/kernel/hostname")
    } else {
        format!("{}\n", hostname(pod))
    };
    let files = [
        ("hosts", etc_hosts(pod, spec, ips, &of_node("/etc/hosts"))),
        ("resolv.conf", resolv_conf(spec, &of_node("/etc/resolv.conf"))),
        ("hostname", name),
    ];
    files.iter().try_for_each(|(file, text)| fs::write(dir.join(file), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web-0", "namespace": "ns", "uid": "u"}, "spec": spec}),
        )
        .expect("a pod")
    }

    #[track_caller]
    fn check_resolv(spec: serde_json::Value, expected: &str) {
        let pod = pod(spec);
        let node = "# made by hand\nnameserver 10.0.0.2\nsearch example.org\noptions ndots:1 rotate\n";
        assert_eq!(resolv_conf(pod.spec.as_ref().expect("spec"), node), expected);
    }

    #[test]
    fn resolv_conf_by_policy() {
        let plain = "nameserver 10.0.0.2\nsearch example.org\noptions ndots:1 rotate\n";
        check_resolv(serde_json::json!({"dnsPolicy": "Default"}), plain);
        check_resolv(serde_json::json!({"dnsPolicy": "ClusterFirst"}), plain);
        let config = serde_json::json!({"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "5"}]});
        check_resolv(
            serde_json::json!({"dnsPolicy": "None", "dnsConfig": config}),
            "nameserver 1.1.1.1\noptions ndots:5\n",
        );
        check_resolv(
            serde_json::json!({"dnsConfig": config}),
            "nameserver 10.0.0.2\nnameserver 1.1.1.1\nsearch example.org\noptions rotate ndots:5\n",
        );
    }

    #[test]
    fn hosts_have_the_pod_and_its_aliases() {
        let pod =
            pod(serde_json::json!({"hostname": "own", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let ips = ["10.244.0.9".parse().expect("ip"), "fd00:10:244::9".parse().expect("ip")];
        let hosts = |ips: &[IpAddr]| etc_hosts(&pod, pod.spec.as_ref().expect("spec"), ips, "");
        let text = hosts(&ips[..1]);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.ends_with("10.244.0.9\town\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        let text = hosts(&ips);
        assert!(text.contains("ip6-allrouters\n10.244.0.9\town\nfd00:10:244::9\town\n\n# Entries"), "{text}");
    }

    #[track_caller]
    fn check_dns(spec: serde_json::Value, expected: bool) {
        let pod = pod(spec);
        assert_eq!(wants_cluster_dns(pod.spec.as_ref().expect("spec")), expected);
    }

    #[test]
    fn who_wants_a_cluster_dns() {
        check_dns(serde_json::json!({}), true);
        check_dns(serde_json::json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), false);
        check_dns(serde_json::json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), true);
        check_dns(serde_json::json!({"dnsPolicy": "Default"}), false);
        let pod = pod(serde_json::json!({"dnsPolicy": "ClusterFirst"}));
        let text = "pod: \"web-0_ns(u)\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.";
        assert_eq!(missing_cluster_dns(&pod, pod.spec.as_ref().expect("spec")), text);
    }
}
