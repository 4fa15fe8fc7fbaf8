//! What an unschedulable pod is told: upstream's FitError text, which people and tests read.

use std::collections::BTreeMap;

use super::Rejected;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) …. preemption: …`
pub(super) fn fit_error(rejected: &[Rejected<'_>], preemption: &str) -> String {
    if rejected.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let reasons = rejected.iter().flat_map(|(_, reasons)| reasons).map(|reason| reason.text.as_str());
    format!("0/{} nodes are available: {}. {preemption}", rejected.len(), histogram(reasons))
}

/// `2 this, 1 that`, sorted as text.
pub(super) fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut texts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    texts.sort();
    texts.join(", ")
}
