//! The Node object: made at the start, its status kept true.
//!
//! Labels and the rest of the metadata are written once and then belong to whoever edits them. The status is sent when it
//! changes and every five minutes besides; that the node lives is the Lease's to say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node as Object, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};

use crate::address::NodeIps;
use crate::context::Node;
use crate::limits::Allocatable;
use crate::runtime::Version;

/// How often the node looks at itself.
const LOOK: Duration = Duration::from_secs(1);
/// How often the stored status is looked at: of a node that it did not hear of, the control plane overwrites it.
const COMPARE: Duration = Duration::from_secs(10);
/// How often an unchanged status is sent.
const REPORT: Duration = Duration::from_secs(300);
/// Pods that a node takes, the kubelet's default.
const MAX_PODS: i64 = 110;
/// The kubelet that this node stands for, in `kubectl get nodes`.
const KUBELET_VERSION: &str = concat!("v1.36.2+weft", env!("CARGO_PKG_VERSION"));

/// What the machine has.
pub(crate) fn measure(state_dir: &Path) -> Allocatable {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let disk = nix::sys::statvfs::statvfs(state_dir).map_or(0, |found| found.blocks() * found.fragment_size());
    Allocatable {
        cpu_milli: i64::try_from(cores).unwrap_or(1) * 1000,
        memory: total.unwrap_or(0) * 1024,
        ephemeral_storage: i64::try_from(disk).unwrap_or(i64::MAX),
    }
}

/// The status that was sent last.
struct Sent {
    status: NodeStatus,
    at: Instant,
    compared: Instant,
}

/// Registers the node and keeps its status, for as long as it runs.
pub(crate) async fn keep(node: Arc<Node>) {
    let api: Api<Object> = Api::all(node.client.clone());
    let mut sent: Option<Sent> = None;
    let mut registered = false;
    loop {
        let result = if registered { Ok(()) } else { register(&api, &node).await };
        let result = match result {
            Ok(()) => {
                registered = true;
                report(&api, &node, &mut sent).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // A Node that was deleted by hand is registered again.
            registered = registered && !matches!(&error, kube::Error::Api(status) if status.is_not_found());
            tracing::warn!(%error, "the Node object could not be written");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn register(api: &Api<Object>, node: &Node) -> Result<(), kube::Error> {
    let labels = labels(&node.name);
    let metadata = ObjectMeta { name: Some(node.name.clone()), labels: Some(labels.clone()), ..ObjectMeta::default() };
    let object = Object { metadata, ..Object::default() };
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {
            tracing::info!(node = node.name, "registered");
            node.events.node("Starting", "Starting kubelet.".to_owned());
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => {
            let patch = serde_json::json!({"metadata": {"labels": labels}});
            api.patch(&node.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
        }
        Err(error) => Err(error),
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", crate::image::reference::architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", crate::image::reference::architecture()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Sends the status if it has changed or is due.
async fn report(api: &Api<Object>, node: &Node, sent: &mut Option<Sent>) -> Result<(), kube::Error> {
    let ready = node.runtime.network_ready();
    let old = match sent {
        Some(last) if last.compared.elapsed() < COMPARE => last.status.clone(),
        _ => api.get(&node.name).await?.status.unwrap_or_default(),
    };
    let images = node.runtime.images().await.unwrap_or_default();
    let mut status = status(node, &ready, &old);
    status.images = Some(
        images
            .into_iter()
            .take(50)
            .map(|(name, image)| ContainerImage { names: Some(vec![name]), size_bytes: i64::try_from(image.size).ok() })
            .collect(),
    );
    if let Some(last) = sent {
        if last.compared.elapsed() >= COMPARE {
            last.compared = Instant::now();
        }
        if last.at.elapsed() <= REPORT && same(&last.status, &status) && !overwritten(&old, &status) {
            return Ok(());
        }
    }
    api.patch_status(&node.name, &PatchParams::default(), &Patch::Strategic(&body(&status))).await?;
    let was_ready = old.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    if was_ready != ready.is_ok() {
        let word = if ready.is_ok() { "NodeReady" } else { "NodeNotReady" };
        node.events.node(word, format!("Node {} status is now: {word}", node.name));
    }
    *sent = Some(Sent { status, at: Instant::now(), compared: Instant::now() });
    Ok(())
}

/// Whether one of our conditions is stored with another status.
fn overwritten(stored: &NodeStatus, ours: &NodeStatus) -> bool {
    ours.conditions.iter().flatten().any(|own| {
        let there = stored.conditions.iter().flatten().find(|there| there.type_ == own.type_);
        there.is_none_or(|there| there.status != own.status)
    })
}

/// Equal but for the heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    quiet(a) == quiet(b)
}

fn status(node: &Node, ready: &Result<(), String>, old: &NodeStatus) -> NodeStatus {
    let amounts = amounts(node.allocatable);
    NodeStatus {
        addresses: Some(addresses(node.ips, &node.name)),
        allocatable: Some(amounts.clone()),
        capacity: Some(amounts),
        conditions: Some(conditions(ready, old)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(node.port) }),
        }),
        node_info: Some(system(&node.runtime.version())),
        ..NodeStatus::default()
    }
}

/// One InternalIP per family, the primary one first.
fn addresses(ips: NodeIps, name: &str) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let internal = ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", name.to_owned())]).collect()
}

/// The addresses replace those that are stored: merged by their type, as a patch would, two InternalIPs become one.
fn body(status: &NodeStatus) -> serde_json::Value {
    let mut body = serde_json::json!({"status": status});
    if let Some(addresses) = body.pointer_mut("/status/addresses").and_then(|addresses| addresses.as_array_mut()) {
        addresses.insert(0, serde_json::json!({"$patch": "replace"}));
    }
    body
}

fn amounts(has: Allocatable) -> BTreeMap<String, Quantity> {
    let amounts = [
        ("cpu", (has.cpu_milli / 1000).to_string()),
        ("memory", format!("{}Ki", has.memory / 1024)),
        ("ephemeral-storage", format!("{}Ki", has.ephemeral_storage / 1024)),
        ("pods", MAX_PODS.to_string()),
    ];
    amounts.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount))).collect()
}

fn conditions(ready: &Result<(), String>, old: &NodeStatus) -> Vec<NodeCondition> {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let condition = |kind: &str, status: &str, reason: &str, message: String| {
        let before = old.conditions.iter().flatten().find(|one| one.type_ == kind && one.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|one| one.last_transition_time.clone()).or(Some(now.clone())),
        }
    };
    let network = match ready {
        Ok(()) => condition("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Err(message) => condition(
            "Ready",
            "False",
            "KubeletNotReady",
            format!("container runtime network not ready: {}", not_ready(message)),
        ),
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available".to_owned(),
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned()),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
        network,
    ]
}

/// CRI's network condition as the kubelet prints it.
pub(crate) fn not_ready(message: &str) -> String {
    format!("NetworkReady=false reason:NetworkPluginNotReady message:{message}")
}

fn system(runtime: &Version) -> NodeSystemInfo {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let release = read("/etc/os-release");
    let os = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    NodeSystemInfo {
        architecture: crate::image::reference::architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os,
        system_uuid: read("/sys/class/dmi/id/product_uuid"),
        ..NodeSystemInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_condition_waits_for_the_network() {
        let message = "Network plugin returns error: cni plugin not initialized".to_owned();
        let before = conditions(&Err(message), &NodeStatus::default());
        let ready = before.iter().find(|one| one.type_ == "Ready").expect("Ready");
        let text = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref(), ready.message.as_deref()),
            ("False", Some("KubeletNotReady"), Some(text))
        );
        let old = NodeStatus { conditions: Some(before), ..NodeStatus::default() };
        let after = conditions(&Ok(()), &old);
        assert_eq!(
            after.iter().filter(|one| one.status == "True").map(|one| one.type_.as_str()).collect::<Vec<_>>(),
            ["Ready"]
        );
    }

    #[test]
    fn addresses_of_both_families_replace_what_is_stored() {
        let ips = "172.31.0.11,fd00:172:31::11".parse().expect("addresses");
        let status = NodeStatus { addresses: Some(addresses(ips, "node-1")), ..NodeStatus::default() };
        let expected = serde_json::json!([{"$patch": "replace"}, {"type": "InternalIP", "address": "172.31.0.11"},
            {"type": "InternalIP", "address": "fd00:172:31::11"}, {"type": "Hostname", "address": "node-1"}]);
        assert_eq!(body(&status)["status"]["addresses"], expected);
    }

    #[test]
    fn heartbeats_alone_are_no_change() {
        let one = NodeStatus { conditions: Some(conditions(&Ok(()), &NodeStatus::default())), ..NodeStatus::default() };
        let mut two = one.clone();
        two.conditions.as_mut().expect("set above")[0].last_heartbeat_time = None;
        assert!(same(&one, &two));
        two.conditions.as_mut().expect("set above")[0].status = "True".to_owned();
        assert!(!same(&one, &two));
    }
}
