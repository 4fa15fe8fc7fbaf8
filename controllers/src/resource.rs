//! The resources that controllers name, as [`action::Resource`](crate::action::Resource) spells them.

pub(crate) const PODS: &str = "pods";
pub(crate) const NODES: &str = "nodes";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const SERVICES: &str = "services";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const CONFIG_MAPS: &str = "configmaps";
pub(crate) const SERVICE_ACCOUNTS: &str = "serviceaccounts";
pub(crate) const EVENTS: &str = "events";
pub(crate) const REPLICATION_CONTROLLERS: &str = "replicationcontrollers";
pub(crate) const DEPLOYMENTS: &str = "deployments.apps";
pub(crate) const REPLICA_SETS: &str = "replicasets.apps";
pub(crate) const DAEMON_SETS: &str = "daemonsets.apps";
pub(crate) const CONTROLLER_REVISIONS: &str = "controllerrevisions.apps";
pub(crate) const SLICES: &str = "endpointslices.discovery.k8s.io";
pub(crate) const BUDGETS: &str = "poddisruptionbudgets.policy";
pub(crate) const LEASES: &str = "leases.coordination.k8s.io";
