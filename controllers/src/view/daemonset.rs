//! DaemonSets and the ControllerRevisions that record their templates.

use super::{Condition, LabelSelector, Meta, Raw, RollingUpdate, view};

view! {
    DaemonSet {
        #[serde(rename = "metadata")]
        meta: Meta,
        spec: DaemonSetSpec,
        status: DaemonSetStatus,
    }
    DaemonSetSpec {
        selector: LabelSelector,
        template: Raw,
        update_strategy: UpdateStrategy,
        min_ready_seconds: i64,
        revision_history_limit: Option<i64>,
    }
    UpdateStrategy {
        #[serde(rename = "type")]
        type_: String,
        rolling_update: RollingUpdate,
    }
    DaemonSetStatus {
        current_number_scheduled: i64,
        number_misscheduled: i64,
        desired_number_scheduled: i64,
        number_ready: i64,
        observed_generation: i64,
        updated_number_scheduled: i64,
        number_available: i64,
        number_unavailable: i64,
        collision_count: Option<i64>,
        conditions: Vec<Condition>,
    }
    ControllerRevision {
        #[serde(rename = "metadata")]
        meta: Meta,
        revision: i64,
        data: Raw,
    }
}
