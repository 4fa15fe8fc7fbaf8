//! Kinds of which controllers read very little.

use super::{Condition, Map, Meta, view};

/// The ConfigMap with the cluster's CA, in every namespace.
pub(crate) const ROOT_CA_NAME: &str = "kube-root-ca.crt";

view! {
    Namespace {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: NamespaceSpec,
        status: NamespaceStatus,
    }
    NamespaceSpec {
        finalizers: Vec<String>,
    }
    NamespaceStatus {
        phase: String,
        conditions: Vec<Condition>,
    }
    /// Only of `kube-root-ca.crt` is the data kept.
    ConfigMap {
        #[serde(rename = "metadata")]
        meta: Meta,
        data: Map,
    }
}
