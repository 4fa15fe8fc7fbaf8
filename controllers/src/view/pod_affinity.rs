//! `pod.spec.affinity`.

use super::{LabelSelector, NodeSelector, NodeSelectorTerm, view};

view! {
    Affinity {
        node_affinity: NodeAffinity,
        pod_affinity: PodAffinity,
        pod_anti_affinity: PodAffinity,
    }
    NodeAffinity {
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
        required: Option<NodeSelector>,
        #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
        preferred: Vec<PreferredNodeTerm>,
    }
    PreferredNodeTerm {
        weight: i64,
        preference: NodeSelectorTerm,
    }
    /// Affinity and anti-affinity between pods have the same shape.
    PodAffinity {
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
        required: Vec<PodTerm>,
        #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
        preferred: Vec<WeightedPodTerm>,
    }
    WeightedPodTerm {
        weight: i64,
        pod_affinity_term: PodTerm,
    }
    PodTerm {
        label_selector: Option<LabelSelector>,
        namespaces: Vec<String>,
        namespace_selector: Option<LabelSelector>,
        topology_key: String,
        match_label_keys: Vec<String>,
        mismatch_label_keys: Vec<String>,
    }
}

impl Affinity {
    /// Whether it has terms about other pods.
    pub(crate) fn between_pods(&self) -> bool {
        [&self.pod_affinity, &self.pod_anti_affinity]
            .iter()
            .any(|terms| !terms.required.is_empty() || !terms.preferred.is_empty())
    }
}
