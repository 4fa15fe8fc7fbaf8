//! What the controllers are told once, when the server starts.
//!
//! Reconcile functions read it through the [`Snapshot`](crate::snapshot::Snapshot), so their signature stays
//! `(snapshot, key, now)`. Every default is upstream's kube-controller-manager default.

use std::time::Duration;

use ipnetwork::IpNetwork;

/// Cluster-wide settings of the controllers and the scheduler.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Pod ranges, one per family; each node gets a piece of each. Empty: node IPAM does nothing.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Ranges of ClusterIPs: never given to nodes, even where a cluster range contains them.
    pub service_cidrs: Vec<IpNetwork>,
    /// Prefix length of a node's IPv4 piece.
    pub node_mask_v4: u8,
    /// Prefix length of a node's IPv6 piece.
    pub node_mask_v6: u8,
    /// PEM of the cluster's CA, published as `kube-root-ca.crt` in every namespace. Empty: nothing is published.
    pub root_ca_pem: String,
    /// A node that was not heard of for this long becomes `Unknown` (`--node-monitor-grace-period`).
    pub node_grace: Duration,
    /// The same for a node that was never heard of (`--node-startup-grace-period`).
    pub node_startup_grace: Duration,
    /// Terminated pods kept beyond this number are deleted, oldest first (`--terminated-pod-gc-threshold`).
    pub terminated_pods: usize,
    /// Endpoints in one slice at most (`--max-endpoints-per-slice`).
    pub endpoints_per_slice: usize,
    /// Threads that reconcile and write.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_mask_v4: 24,
            node_mask_v6: 64,
            root_ca_pem: String::new(),
            node_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_secs(60),
            terminated_pods: 12_500,
            endpoints_per_slice: 100,
            workers: 4,
        }
    }
}
