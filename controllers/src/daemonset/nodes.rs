//! On which nodes a daemon's pod should be, and that pod.

use serde_json::{Value, json};

use super::{HASH_LABEL, Round};
use crate::{
    names,
    scheduler::selects,
    template,
    view::{Node, Pod, PodSpec, Taint, Toleration, tolerated},
};

/// What daemons tolerate by themselves: they are there before a node is ready and after it is full.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a node gets a pod, and whether it keeps the one that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) runs: bool,
    pub(super) keeps: bool,
}

/// The template as the placement reads it.
pub(super) struct Wanted {
    pod: Pod,
}

impl Wanted {
    pub(super) fn new(template: &Value) -> Self {
        let mut spec: PodSpec = serde_json::from_str(&template["spec"].to_string()).unwrap_or_default();
        spec.tolerations.extend(tolerations(spec.host_network).map(|(key, effect)| Toleration {
            key: key.to_owned(),
            operator: "Exists".to_owned(),
            effect: effect.to_owned(),
            ..Toleration::default()
        }));
        Self { pod: Pod { spec, ..Pod::default() } }
    }

    pub(super) fn place(&self, node: &Node) -> Place {
        let named = &self.pod.spec.node_name;
        if !selects(&self.pod, node) || (!named.is_empty() && *named != node.meta.name) {
            return Place { runs: false, keeps: false };
        }
        let untolerated = |effects: &[&str]| {
            let against = |taint: &&Taint| {
                effects.contains(&taint.effect.as_str()) && !tolerated(taint, &self.pod.spec.tolerations)
            };
            node.spec.taints.iter().any(|taint| against(&taint))
        };
        Place { runs: !untolerated(&["NoSchedule", "NoExecute"]), keeps: !untolerated(&["NoExecute"]) }
    }
}

fn tolerations(host_network: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    TOLERATED.into_iter().chain(host_network.then_some(NETWORK))
}

/// The node that a pod is on, or will be.
pub(super) fn node_of(pod: &Pod) -> &str {
    if !pod.spec.node_name.is_empty() {
        return &pod.spec.node_name;
    }
    let required = pod.spec.affinity.node_affinity.required.as_ref();
    let fields = required.into_iter().flat_map(|r| &r.node_selector_terms).flat_map(|term| &term.match_fields);
    fields
        .filter(|field| field.key == "metadata.name")
        .find_map(|field| field.values.first())
        .map_or("", String::as_str)
}

/// The pod for a node, with its name.
pub(super) fn pod(round: &Round<'_>, node: &str) -> (String, Value) {
    let meta = &round.set.meta;
    let seed: [&[u8]; 3] = [meta.uid.as_bytes(), node.as_bytes(), &round.revision.to_be_bytes()];
    let name = names::generated(&format!("{}-", meta.name), &seed);
    let mut template = round.template.clone();
    template::set_label(&mut template, HASH_LABEL, &round.hash);
    template::set_label(&mut template, "pod-template-generation", &meta.generation.to_string());
    let spec = &mut template["spec"];
    bind_by_affinity(spec, node);
    let list = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let host_network = spec["hostNetwork"] == true;
    let own =
        tolerations(host_network).map(|(key, effect)| json!({ "key": key, "operator": "Exists", "effect": effect }));
    let missing: Vec<Value> = own.filter(|toleration| !list.contains(toleration)).collect();
    spec["tolerations"] = list.into_iter().chain(missing).collect();
    let object = template::pod(&template, &meta.namespace, &name, &round.owner.reference());
    (name, object)
}

/// Every required term, or a new one, names the node: terms are alternatives.
fn bind_by_affinity(spec: &mut Value, node: &str) {
    let field = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
    for step in ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"].iter().scan(
        String::new(),
        |path, step| {
            path.push('/');
            path.push_str(step);
            Some(path.clone())
        },
    ) {
        // Make each level an object, so that the next can be reached.
        let (parent, name) = step.rsplit_once('/').unwrap_or(("", &step));
        if let Some(parent) = spec.pointer_mut(parent)
            && !parent[name].is_object()
        {
            parent[name] = json!({});
        }
    }
    let required = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array_mut() {
        Some(terms) if !terms.is_empty() => terms.iter_mut().for_each(|term| term["matchFields"] = field.clone()),
        _ => required["nodeSelectorTerms"] = json!([{ "matchFields": field }]),
    }
}
