//! PodDisruptionBudgets.

use std::collections::BTreeMap;

use super::{Condition, IntOrString, LabelSelector, Meta, view};

view! {
    Budget {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: BudgetSpec,
        status: BudgetStatus,
    }
    BudgetSpec {
        min_available: Option<IntOrString>,
        max_unavailable: Option<IntOrString>,
        selector: Option<LabelSelector>,
    }
    BudgetStatus {
        observed_generation: i64,
        /// By name: when the eviction was allowed.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        disrupted_pods: BTreeMap<String, String>,
        disruptions_allowed: i64,
        current_healthy: i64,
        desired_healthy: i64,
        expected_pods: i64,
        conditions: Vec<Condition>,
    }
}
