//! Pods as controllers and the scheduler read them.

use jiff::Timestamp;

use super::{Affinity, Condition, LabelSelector, Map, Meta, condition, condition_is_true, view};

view! {
    Pod {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: PodSpec,
        status: PodStatus,
    }
    PodSpec {
        node_name: String,
        scheduler_name: String,
        host_network: bool,
        hostname: String,
        subdomain: String,
        restart_policy: String,
        priority: Option<i64>,
        preemption_policy: String,
        node_selector: Map,
        affinity: Affinity,
        tolerations: Vec<Toleration>,
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        overhead: Map,
        scheduling_gates: Vec<Gate>,
        topology_spread_constraints: Vec<SpreadConstraint>,
    }
    Container {
        name: String,
        image: String,
        restart_policy: String,
        ports: Vec<ContainerPort>,
        resources: Resources,
    }
    ContainerPort {
        name: String,
        container_port: u16,
        host_port: u16,
        #[serde(rename = "hostIP")]
        host_ip: String,
        protocol: String,
    }
    Resources {
        requests: Map,
    }
    Gate {
        name: String,
    }
    Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
        toleration_seconds: Option<i64>,
    }
    Taint {
        key: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        value: String,
        effect: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        time_added: Option<Timestamp>,
    }
    SpreadConstraint {
        max_skew: i64,
        topology_key: String,
        when_unsatisfiable: String,
        label_selector: Option<LabelSelector>,
        min_domains: Option<i64>,
        node_affinity_policy: String,
        node_taints_policy: String,
        match_label_keys: Vec<String>,
    }
    PodStatus {
        phase: String,
        reason: String,
        nominated_node_name: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        #[serde(rename = "hostIP")]
        host_ip: String,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
    }
    PodIp {
        ip: String,
    }
    ContainerStatus {
        name: String,
        restart_count: i64,
    }
}

impl Pod {
    /// Succeeded or Failed: its containers will not run again.
    pub(crate) fn terminated(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Neither terminated nor being deleted.
    pub(crate) fn active(&self) -> bool {
        !self.terminated() && !self.meta.deleting()
    }

    pub(crate) fn ready(&self) -> bool {
        condition_is_true(&self.status.conditions, "Ready")
    }

    /// When it last became ready, if it is.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        condition(&self.status.conditions, "Ready")
            .filter(|c| c.status == "True")
            .and_then(|c| c.last_transition_time.as_deref()?.parse().ok())
    }

    /// Ready for at least so many seconds. With 0, being ready is enough.
    pub(crate) fn available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.ready()
            && (min_ready_seconds == 0
                || self.ready_since().is_some_and(|since| now.as_second() - since.as_second() >= min_ready_seconds))
    }

    /// Its addresses, the first of each family first.
    pub(crate) fn ips(&self) -> Vec<&str> {
        if self.status.pod_ips.is_empty() {
            return Some(self.status.pod_ip.as_str()).filter(|ip| !ip.is_empty()).into_iter().collect();
        }
        self.status.pod_ips.iter().map(|ip| ip.ip.as_str()).collect()
    }

    /// Containers that run as long as the pod: the main ones and restartable init containers.
    pub(crate) fn long_running(&self) -> impl Iterator<Item = &Container> {
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
        self.spec.containers.iter().chain(sidecars)
    }

    pub(crate) fn priority(&self) -> i64 {
        self.spec.priority.unwrap_or(0)
    }
}

impl Toleration {
    /// corev1.Toleration.ToleratesTaint.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "Exists" => true,
                "" | "Equal" => !self.key.is_empty() && self.value == taint.value,
                _ => false,
            }
    }
}

/// Whether any of the tolerations tolerates the taint.
pub(crate) fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|t| t.tolerates(taint))
}
