//! Filter plugins: where a pod cannot go. The first plugin that refuses a node names the reasons, in upstream's words.

use crate::{
    scheduler::{
        Amounts,
        affinity::PodTerms,
        spread::Spread,
        usage::{HostPort, Usage, host_ports, requests},
    },
    snapshot::Snapshot,
    view::{Node, Pod, Taint, contains_all, tolerated},
};

/// Why a node was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// Taking pods away from the node could change it.
    pub(crate) resolvable: bool,
}

impl Reason {
    pub(crate) fn new(text: impl Into<String>, resolvable: bool) -> Self {
        Self { text: text.into(), resolvable }
    }
}

/// What filters need to know of a pod, worked out once for all nodes.
pub(crate) struct Filters<'a> {
    snapshot: &'a Snapshot,
    pod: &'a Pod,
    requests: Amounts,
    ports: Vec<HostPort>,
    spread: Spread,
    terms: PodTerms,
}

type Plugin = fn(&Filters<'_>, &Node, &Usage) -> Vec<Reason>;

/// In the order of upstream's default profile.
const PLUGINS: [Plugin; 8] = [
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
    |filters, node, _| filters.spread.check(node).into_iter().collect(),
    |filters, node, _| filters.terms.check(node).into_iter().collect(),
];

impl<'a> Filters<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, pod: &'a Pod) -> Self {
        Self {
            snapshot,
            pod,
            requests: requests(pod),
            ports: host_ports(pod),
            spread: Spread::required(snapshot, pod),
            terms: PodTerms::required(snapshot, pod),
        }
    }

    /// Reasons against a node; none if it can take the pod.
    pub(crate) fn check(&self, node: &Node) -> Vec<Reason> {
        let none = Usage::default();
        self.check_with(node, self.snapshot.usage.get(&node.meta.name).unwrap_or(&none))
    }

    /// The same, for a node that is used otherwise than it is now.
    pub(crate) fn check_with(&self, node: &Node, usage: &Usage) -> Vec<Reason> {
        PLUGINS.iter().map(|plugin| plugin(self, node, usage)).find(|reasons| !reasons.is_empty()).unwrap_or_default()
    }
}

fn refuse(text: &str, resolvable: bool) -> Vec<Reason> {
    vec![Reason::new(text, resolvable)]
}

fn node_unschedulable(filters: &Filters<'_>, node: &Node, _: &Usage) -> Vec<Reason> {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if node.spec.unschedulable && !tolerated(&taint, &filters.pod.spec.tolerations) {
        return refuse("node(s) were unschedulable", false);
    }
    Vec::new()
}

fn node_name(_: &Filters<'_>, _: &Node, _: &Usage) -> Vec<Reason> {
    // A pod that names its node never comes here: it is bound already.
    Vec::new()
}

fn taint_toleration(filters: &Filters<'_>, node: &Node, _: &Usage) -> Vec<Reason> {
    let hard = node.spec.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    match hard.into_iter().find(|taint| !tolerated(taint, &filters.pod.spec.tolerations)) {
        Some(taint) => refuse(&format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value), false),
        None => Vec::new(),
    }
}

fn node_affinity(filters: &Filters<'_>, node: &Node, _: &Usage) -> Vec<Reason> {
    if selects(filters.pod, node) {
        Vec::new()
    } else {
        refuse("node(s) didn't match Pod's node affinity/selector", false)
    }
}

/// nodeSelector and required node affinity.
pub(crate) fn selects(pod: &Pod, node: &Node) -> bool {
    contains_all(&node.meta.labels, &pod.spec.node_selector)
        && pod
            .spec
            .affinity
            .node_affinity
            .required
            .as_ref()
            .is_none_or(|required| required.matches(&node.meta.name, &node.meta.labels))
}

fn node_ports(filters: &Filters<'_>, _: &Node, usage: &Usage) -> Vec<Reason> {
    if filters.ports.iter().any(|port| usage.ports.iter().any(|used| used.conflicts(port))) {
        return refuse("node(s) didn't have free ports for the requested pod ports", true);
    }
    Vec::new()
}

fn node_resources_fit(filters: &Filters<'_>, node: &Node, usage: &Usage) -> Vec<Reason> {
    let empty = Amounts::new();
    let room = filters.snapshot.room.get(&node.meta.name).unwrap_or(&empty);
    let of = |amounts: &Amounts, resource: &str| amounts.get(resource).copied().unwrap_or(0);
    let mut reasons = Vec::new();
    if usage.pods + 1 > of(room, "pods") {
        reasons.push(Reason::new("Too many pods", of(room, "pods") > 0));
    }
    for (resource, wanted) in &filters.requests {
        if *wanted > 0 && of(&usage.requests, resource) + wanted > of(room, resource) {
            reasons.push(Reason::new(format!("Insufficient {resource}"), *wanted <= of(room, resource)));
        }
    }
    reasons
}
