//! Deployments and ReplicaSets. A ReplicationController is read as a ReplicaSet with a plain map as selector.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Condition, IntOrString, LabelSelector, Map, Meta, Raw, view};

view! {
    Deployment {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: DeploymentSpec,
        status: DeploymentStatus,
    }
    DeploymentSpec {
        replicas: Option<i64>,
        selector: LabelSelector,
        template: Raw,
        strategy: Strategy,
        min_ready_seconds: i64,
        revision_history_limit: Option<i64>,
        paused: bool,
        progress_deadline_seconds: Option<i64>,
    }
    Strategy {
        #[serde(rename = "type")]
        type_: String,
        rolling_update: RollingUpdate,
    }
    RollingUpdate {
        max_surge: Option<IntOrString>,
        max_unavailable: Option<IntOrString>,
    }
    DeploymentStatus {
        observed_generation: i64,
        replicas: i64,
        updated_replicas: i64,
        ready_replicas: i64,
        available_replicas: i64,
        unavailable_replicas: i64,
        collision_count: Option<i64>,
        conditions: Vec<Condition>,
    }
    ReplicaSet {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: ReplicaSetSpec,
        status: ReplicaSetStatus,
        /// It is a ReplicationController.
        #[serde(skip)]
        legacy: bool,
    }
    ReplicaSetSpec {
        replicas: Option<i64>,
        selector: SetSelector,
        template: Raw,
        min_ready_seconds: i64,
    }
    ReplicaSetStatus {
        observed_generation: i64,
        replicas: i64,
        fully_labeled_replicas: i64,
        ready_replicas: i64,
        available_replicas: i64,
        conditions: Vec<Condition>,
    }
}

/// A LabelSelector, or the plain map of a ReplicationController.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct SetSelector(pub(crate) LabelSelector);

impl<'de> Deserialize<'de> for SetSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Map(Map),
            Selector(LabelSelector),
        }
        // A real LabelSelector's members are not strings, so it never reads as a map, but for the empty one.
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Map(match_labels) => LabelSelector { match_labels, match_expressions: Vec::new() },
            Either::Selector(selector) => selector,
        }))
    }
}

impl ReplicaSet {
    pub(crate) fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(crate) fn selector(&self) -> &LabelSelector {
        &self.spec.selector.0
    }

    pub(crate) fn kind(&self) -> &'static str {
        if self.legacy { "ReplicationController" } else { "ReplicaSet" }
    }

    pub(crate) fn api_version(&self) -> &'static str {
        if self.legacy { "v1" } else { "apps/v1" }
    }

    pub(crate) fn resource(&self) -> &'static str {
        if self.legacy { crate::resource::REPLICATION_CONTROLLERS } else { crate::resource::REPLICA_SETS }
    }
}

impl Deployment {
    pub(crate) fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(crate) fn rolling(&self) -> bool {
        self.spec.strategy.type_ != "Recreate"
    }
}
