//! What differs per kind: defaults, validation, and what a write may change. Everything else is the store's, once for all.
//!
//! Order of a create: [`default`], admission, [`prepare_create`], [`validate_create`]. Of an update: [`default`], admission,
//! [`prepare_update`], [`validate_update`]. A kind without a file of its own has only ObjectMeta's rules ([`meta`]), the
//! type table's defaults and the generic strategy ([`strategy`]).

mod autoscaler;
mod certificate;
mod class;
mod config;
mod daemon_set;
mod deployment;
mod endpoints;
mod fill;
mod ingress;
mod job;
mod lease;
mod meta;
pub mod names;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod pod_template;
mod rbac;
mod service;
mod stateful_set;
mod strategy;
mod volume;
mod webhook;
mod workload;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    schema::{Row, shape},
    status::FieldError,
};

pub use pod::qos_class;
pub use service::family;

/// Who writes what, and when.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// The resource.
    pub row: &'a Row,
    /// The server's time.
    pub now: Timestamp,
    /// The user's name.
    pub user: &'a str,
    /// The subresource written, if any.
    pub subresource: Option<&'a str>,
}

impl Ctx<'_> {
    /// The subresource's name, or empty.
    fn part(&self) -> &str {
        self.subresource.unwrap_or("")
    }
}

/// Fills in upstream's defaults.
pub fn default(row: &Row, value: &mut Value) {
    match (row.group, row.kind) {
        ("", "Pod") => pod::default(value),
        ("", "PodTemplate") => pod_template::default(value, "template"),
        ("", "ReplicationController") => workload::default_replication_controller(value),
        ("", "Service") => service::default(value),
        ("", "Endpoints") => endpoints::default(value),
        ("", "Namespace") => namespace::default(value),
        ("", "Node") => node::default(value),
        ("", "Secret") => config::default_secret(value),
        ("", "PersistentVolume") => volume::default_volume(value),
        ("", "PersistentVolumeClaim") => volume::default_claim(value),
        ("", "LimitRange") => config::default_limit_range(value),
        ("apps", "Deployment") => deployment::default(value),
        ("apps", "ReplicaSet") => workload::default_replica_set(value),
        ("apps", "StatefulSet") => stateful_set::default(value),
        ("apps", "DaemonSet") => daemon_set::default(value),
        ("batch", "Job") => job::default(value),
        ("batch", "CronJob") => job::default_cron(value),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::default_slice(value),
        ("networking.k8s.io", "NetworkPolicy") => network_policy::default(value),
        ("networking.k8s.io", "Ingress" | "IngressClass") => ingress::default(value),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::default(row, value),
        ("rbac.authorization.k8s.io", _) => rbac::default(value),
        ("scheduling.k8s.io", "PriorityClass") => class::default_priority(value),
        ("storage.k8s.io", "StorageClass") => class::default_storage(value),
        ("storage.k8s.io", "CSIDriver") => class::default_csi_driver(value),
        ("admissionregistration.k8s.io", _) => webhook::default(value),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => class::default_definition(value),
        _ => {}
    }
    if let Some(ty) = shape::lookup(row.type_name()) {
        fill::from_table(value, ty);
    }
}

/// Readies a new object: no status from the client, generation 1. uid, creationTimestamp and generateName are the store's.
pub fn prepare_create(ctx: &Ctx<'_>, value: &mut Value) {
    strategy::create(ctx, value);
    match (ctx.row.group, ctx.row.kind) {
        ("", "Pod") => pod::prepare_create(value),
        ("", "Namespace") => namespace::prepare_create(value),
        ("", "Service") => service::prepare_create(value),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => volume::prepare_create(value),
        ("batch", "Job") => job::prepare_create(value),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificate::prepare_create(ctx, value),
        _ => {}
    }
}

/// Readies an update: the main resource keeps the old status, a status write keeps everything else; a change of the spec
/// raises the generation.
pub fn prepare_update(ctx: &Ctx<'_>, new: &mut Value, old: &Value) {
    match (ctx.row.group, ctx.row.kind) {
        ("", "Pod") => pod::prepare_update(ctx, new, old),
        ("", "Namespace") => namespace::prepare_update(ctx, new, old),
        ("", "Service") => service::prepare_update(new, old),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificate::prepare_update(ctx, new, old),
        _ => {}
    }
    strategy::update(ctx, new, old);
}

/// What is wrong with a new object.
pub fn validate_create(ctx: &Ctx<'_>, value: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate(ctx.row, value);
    errors.extend(validate(ctx, value));
    errors
}

/// What is wrong with an update.
pub fn validate_update(ctx: &Ctx<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(ctx.row, new, old);
    if ctx.part() == "status" {
        if (ctx.row.group, ctx.row.kind) == ("", "Pod") {
            errors.extend(pod::validate_status(new));
        }
        return errors;
    }
    match (ctx.row.group, ctx.row.kind) {
        // A pod that is there is not judged again whole: only what may change.
        ("", "Pod") => errors.extend(pod::validate_update(ctx, new, old)),
        _ => errors.extend(validate(ctx, new)),
    }
    errors.extend(match (ctx.row.group, ctx.row.kind) {
        ("", "Service") => service::validate_update(new, old),
        ("", "ConfigMap" | "Secret") => config::validate_update(new, old),
        ("", "Node") => node::validate_update(new, old),
        ("", "PersistentVolumeClaim") => volume::validate_claim_update(new, old),
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => workload::validate_update(new, old),
        ("apps", "StatefulSet") => stateful_set::validate_update(new, old),
        ("batch", "Job") => job::validate_update(new, old),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::validate_slice_update(new, old),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => rbac::validate_update(new, old),
        ("scheduling.k8s.io", "PriorityClass") => class::validate_priority_update(new, old),
        ("storage.k8s.io", "StorageClass") => class::validate_storage_update(new, old),
        _ => Vec::new(),
    });
    errors
}

/// What is wrong with an object of this kind, new or not.
fn validate(ctx: &Ctx<'_>, value: &Value) -> Vec<FieldError> {
    match (ctx.row.group, ctx.row.kind) {
        ("", "Pod") => pod::validate(value),
        ("", "PodTemplate") => pod_template::validate(value, "template", None),
        ("", "ReplicationController") => workload::validate_replication_controller(value),
        ("", "Service") => service::validate(value),
        ("", "Endpoints") => endpoints::validate(value),
        ("", "Namespace") => namespace::validate(value),
        ("", "Node") => node::validate(value),
        ("", "ConfigMap") => config::validate_config_map(value),
        ("", "Secret") => config::validate_secret(value),
        ("", "PersistentVolume") => volume::validate_volume(value),
        ("", "PersistentVolumeClaim") => volume::validate_claim(value),
        ("", "ResourceQuota") => config::validate_quota(value),
        ("apps", "Deployment") => deployment::validate(value),
        ("apps", "ReplicaSet") => workload::validate_replica_set(value),
        ("apps", "StatefulSet") => stateful_set::validate(value),
        ("apps", "DaemonSet") => daemon_set::validate(value),
        ("batch", "Job") => job::validate(value),
        ("batch", "CronJob") => job::validate_cron(value),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::validate_slice(value),
        ("networking.k8s.io", "NetworkPolicy") => network_policy::validate(value),
        ("networking.k8s.io", "Ingress") => ingress::validate(value),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::validate(value),
        ("rbac.authorization.k8s.io", _) => rbac::validate(ctx.row, value),
        ("coordination.k8s.io", "Lease") => lease::validate(value),
        ("scheduling.k8s.io", "PriorityClass") => class::validate_priority(value),
        ("storage.k8s.io", "StorageClass") => class::validate_storage(value),
        ("policy", "PodDisruptionBudget") => workload::validate_disruption_budget(value),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificate::validate(value),
        _ => Vec::new(),
    }
}

/// Whether a PUT to a name that is not there creates the object.
pub fn allow_create_on_update(row: &Row) -> bool {
    matches!(
        row.resource,
        "leases"
            | "leasecandidates"
            | "endpoints"
            | "events"
            | "limitranges"
            | "services"
            | "runtimeclasses"
            | "roles"
            | "rolebindings"
            | "clusterroles"
            | "clusterrolebindings"
    )
}

/// Whether an update without a resourceVersion is taken.
pub fn allow_unconditional_update(row: &Row) -> bool {
    let conditional = [
        "leases",
        "leasecandidates",
        "runtimeclasses",
        "poddisruptionbudgets",
        "csistoragecapacities",
        "podcertificaterequests",
    ];
    // Custom resources are conditional too.
    !conditional.contains(&row.resource) && !row.type_name().is_empty()
}

#[cfg(test)]
mod tests;
