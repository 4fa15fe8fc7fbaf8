//! What the pods of a node take of it: kept up to date pod by pod, so that scheduling one pod never looks at all others.

use std::collections::{BTreeMap, HashMap};

use crate::{
    quantity,
    view::{Container, Map, Node, Pod},
};

/// Upstream counts a container without requests as this much when it scores (never when it filters).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource: CPU in thousandths, the rest in units.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// A host port in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
}

impl HostPort {
    /// Whether both cannot be on one node. 0.0.0.0 is every address.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

/// The sum over a node's pods that are not terminated.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) pods: i64,
    pub(crate) requests: Amounts,
    /// CPU and memory with the defaults for containers that ask for nothing.
    pub(crate) scored: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
}

impl Usage {
    /// A pod is on a node.
    pub(crate) fn add_pod(nodes: &mut HashMap<String, Self>, pod: &Pod) {
        if counts(pod) {
            nodes.entry(pod.spec.node_name.clone()).or_default().change(pod, 1);
        }
    }

    /// A pod is no longer on a node (or was, before its change).
    pub(crate) fn remove_pod(nodes: &mut HashMap<String, Self>, pod: &Pod) {
        if counts(pod)
            && let Some(usage) = nodes.get_mut(&pod.spec.node_name)
        {
            usage.change(pod, -1);
            if usage.pods == 0 {
                nodes.remove(&pod.spec.node_name);
            }
        }
    }

    /// What a node offers.
    pub(crate) fn room(node: &Node) -> Amounts {
        amounts(node.allocatable())
    }

    fn change(&mut self, pod: &Pod, sign: i64) {
        self.pods += sign;
        for (resource, amount) in requests(pod) {
            *self.requests.entry(resource).or_default() += sign * amount;
        }
        let (cpu, memory) = scored(pod);
        self.scored.0 += sign * cpu;
        self.scored.1 += sign * memory;
        for port in host_ports(pod) {
            if sign > 0 {
                self.ports.push(port);
            } else if let Some(index) = self.ports.iter().position(|p| *p == port) {
                self.ports.swap_remove(index);
            }
        }
    }
}

fn counts(pod: &Pod) -> bool {
    !pod.spec.node_name.is_empty() && !pod.terminated()
}

/// What a pod asks for: the sum of its containers and sidecars, or its hungriest init step if that is more, and overhead
/// (upstream's resourcehelper.PodRequests).
pub(crate) fn requests(pod: &Pod) -> Amounts {
    let mut total = pod_amounts(pod, &|container| amounts(&container.resources.requests));
    add(&mut total, &amounts(&pod.spec.overhead));
    total
}

/// CPU and memory for scoring.
pub(crate) fn scored(pod: &Pod) -> (i64, i64) {
    let total = pod_amounts(pod, &|container| {
        let mut amounts = amounts(&container.resources.requests);
        amounts.entry("cpu".to_owned()).or_insert(DEFAULT_MILLI_CPU);
        amounts.entry("memory".to_owned()).or_insert(DEFAULT_MEMORY);
        amounts
    });
    let overhead = amounts(&pod.spec.overhead);
    let of = |resource: &str| total.get(resource).copied().unwrap_or(0) + overhead.get(resource).copied().unwrap_or(0);
    (of("cpu"), of("memory"))
}

fn pod_amounts(pod: &Pod, of: &dyn Fn(&Container) -> Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in &pod.spec.containers {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut steps = Amounts::new();
    for container in &pod.spec.init_containers {
        let own = of(container);
        let mut step = own.clone();
        if container.restart_policy == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            step.clone_from(&sidecars);
        } else {
            add(&mut step, &sidecars);
        }
        max(&mut steps, &step);
    }
    max(&mut total, &steps);
    total
}

fn amounts(map: &Map) -> Amounts {
    map.iter()
        .map(|(resource, text)| {
            let amount = if resource == "cpu" { quantity::milli(text) } else { quantity::value(text) };
            (resource.clone(), amount)
        })
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        *total.entry(resource.clone()).or_default() += amount;
    }
}

fn max(total: &mut Amounts, other: &Amounts) {
    for (resource, amount) in other {
        let entry = total.entry(resource.clone()).or_default();
        *entry = (*entry).max(*amount);
    }
}

/// The host ports of a pod's containers.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    pod.long_running()
        .flat_map(|container| &container.ports)
        .filter(|port| port.host_port != 0)
        .map(|port| HostPort {
            ip: if port.host_ip.is_empty() { "0.0.0.0".to_owned() } else { port.host_ip.clone() },
            protocol: if port.protocol.is_empty() { "TCP".to_owned() } else { port.protocol.clone() },
            port: port.host_port,
        })
        .collect()
}
