//! A container's requests and limits → what its cgroup gets, and what `resourceFieldRef` yields. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource;
use objects::Quantity;

use crate::runtime::Resources;
use crate::runtime::spec::CPU_PERIOD;

/// What the node can give to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allocatable {
    /// Thousandths of a core.
    pub(crate) cpu_milli: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes of the filesystem that holds the state directory.
    pub(crate) ephemeral_storage: i64,
}

type List = Option<BTreeMap<String, resource::Quantity>>;

/// An amount of a list; an unreadable one cannot come from the API server and counts as absent.
fn amount(list: &List, name: &str) -> Option<Quantity> {
    list.as_ref()?.get(name)?.0.parse().ok()
}

fn limit(container: &Container, name: &str) -> Option<Quantity> {
    amount(&container.resources.as_ref()?.limits, name)
}

/// The request; where there is none, the limit stands for it.
fn request(container: &Container, name: &str) -> Option<Quantity> {
    amount(&container.resources.as_ref()?.requests, name).or_else(|| limit(container, name))
}

/// The kubelet's arithmetic (`MilliCPUToShares`, `MilliCPUToQuota`, `GetContainerOOMScoreAdjust`).
pub(crate) fn cgroup(pod: &Pod, container: &Container, node: Allocatable) -> Resources {
    let shares = request(container, "cpu").map_or(2, |cpu| (cpu.milli() * 1024 / 1000).clamp(2, 262_144));
    // A quota below a millisecond is refused by the kernel.
    let quota = limit(container, "cpu").map_or(0, |cpu| (cpu.milli() * CPU_PERIOD.cast_signed() / 1000).max(1000));
    let memory_limit = limit(container, "memory").map_or(0, Quantity::value);
    Resources {
        cpu_shares: shares.unsigned_abs(),
        cpu_quota: quota,
        memory_limit,
        oom_score_adj: oom_score(pod, container, node),
    }
}

fn oom_score(pod: &Pod, container: &Container, node: Allocatable) -> i32 {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => -997,
        Some("BestEffort") => 1000,
        _ => {
            let requested = request(container, "memory").map_or(0, Quantity::value);
            let score = 1000 - (1000 * requested).checked_div(node.memory).unwrap_or(0);
            i32::try_from(score.clamp(3, 999)).expect("clamped to three digits")
        }
    }
}

/// `resourceFieldRef`: the value rounded up in units of the divisor; a missing limit is the node's allocatable.
pub(crate) fn field(container: &Container, resource: &str, divisor: Option<&str>, node: Allocatable) -> Option<String> {
    let (kind, name) = resource.split_once('.')?;
    let whole = |units: i64| Quantity(i128::from(units) * 1_000_000_000);
    let of_node = match name {
        "cpu" => Quantity(i128::from(node.cpu_milli) * 1_000_000),
        "memory" => whole(node.memory),
        "ephemeral-storage" => whole(node.ephemeral_storage),
        _ => return None,
    };
    let found = match kind {
        "limits" => limit(container, name).unwrap_or(of_node),
        "requests" => request(container, name).unwrap_or_default(),
        _ => return None,
    };
    let divisor: Quantity =
        divisor.unwrap_or("1").parse().ok().filter(|divisor: &Quantity| divisor.0 > 0).unwrap_or(whole(1));
    Some((found.0.div_euclid(divisor.0) + i128::from(found.0.rem_euclid(divisor.0) != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Allocatable = Allocatable { cpu_milli: 2000, memory: 4 << 30, ephemeral_storage: 1 << 40 };

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let list = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<BTreeMap<_, _>>()
        };
        serde_json::from_value(
            serde_json::json!({"name": "c", "resources": {"requests": list(requests), "limits": list(limits)}}),
        )
        .expect("a container")
    }

    #[track_caller]
    fn check(requests: &[(&str, &str)], limits: &[(&str, &str)], qos: &str, expected: (u64, i64, i64, i32)) {
        let pod: Pod = serde_json::from_value(serde_json::json!({"status": {"qosClass": qos}})).expect("a pod");
        let found = cgroup(&pod, &container(requests, limits), NODE);
        assert_eq!((found.cpu_shares, found.cpu_quota, found.memory_limit, found.oom_score_adj), expected);
    }

    #[test]
    fn cgroup_values() {
        check(&[], &[], "BestEffort", (2, 0, 0, 1000));
        check(&[("cpu", "100m"), ("memory", "1Gi")], &[], "Burstable", (102, 0, 0, 750));
        check(&[("cpu", "1")], &[("cpu", "500m"), ("memory", "64Mi")], "Burstable", (1024, 50_000, 64 << 20, 985));
        check(&[], &[("cpu", "2"), ("memory", "1Gi")], "Guaranteed", (2048, 200_000, 1 << 30, -997));
        check(&[], &[("cpu", "1m")], "Burstable", (2, 1000, 0, 999));
    }

    #[track_caller]
    fn check_field(resource: &str, divisor: Option<&str>, expected: Option<&str>) {
        let container = container(&[("cpu", "250m")], &[("memory", "100Mi")]);
        assert_eq!(field(&container, resource, divisor, NODE).as_deref(), expected);
    }

    #[test]
    fn resource_fields() {
        check_field("requests.cpu", None, Some("1"));
        check_field("requests.cpu", Some("1m"), Some("250"));
        check_field("limits.memory", Some("1Mi"), Some("100"));
        check_field("limits.cpu", None, Some("2"));
        check_field("limits.memory", Some("0"), Some("104857600"));
        check_field("limits.magic", None, None);
    }
}
