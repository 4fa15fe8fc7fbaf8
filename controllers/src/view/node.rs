//! Nodes and their leases.

use super::{Condition, Map, Meta, Taint, condition, view};

view! {
    Node {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: NodeSpec,
        status: NodeStatus,
    }
    NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        taints: Vec<Taint>,
        unschedulable: bool,
    }
    NodeStatus {
        conditions: Vec<Condition>,
        allocatable: Map,
        capacity: Map,
    }
    Lease {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: LeaseSpec,
    }
    LeaseSpec {
        holder_identity: String,
        renew_time: String,
    }
}

impl Node {
    /// `True`, `False`, `Unknown`, or none if the node never said.
    pub(crate) fn ready_status(&self) -> Option<&str> {
        condition(&self.status.conditions, "Ready").map(|c| c.status.as_str())
    }

    /// What pods may use, by resource; capacity where allocatable is not there yet.
    pub(crate) fn allocatable(&self) -> &Map {
        if self.status.allocatable.is_empty() { &self.status.capacity } else { &self.status.allocatable }
    }
}
