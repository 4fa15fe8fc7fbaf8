//! Tables of policies and of what applies to a pod.
use abi::policy::{EGRESS, INGRESS};
use objects::Key;
use policy::{Input, LocalPod};

use super::{
    answer::{isolating, place},
    source::Objects,
};
use crate::columns::columns;

/// Every policy with the number of pods that it isolates; then what is wrong with them.
pub(super) fn list(objects: &Objects) -> String {
    let rows: Vec<[String; 4]> = objects
        .policies
        .values()
        .map(|policy| {
            let selected = objects.pods.values().filter(|pod| {
                pod.key.namespace == policy.key.namespace
                    && !pod.host_network
                    && (policy.pod_selector.fault().is_some() || policy.pod_selector.matches(&pod.labels))
            });
            let types = match (policy.isolates_ingress(), policy.isolates_egress()) {
                (true, true) => "Ingress,Egress",
                (true, false) => "Ingress",
                _ => "Egress",
            };
            let key = &policy.key;
            [key.namespace.to_string(), key.name.to_string(), types.to_owned(), selected.count().to_string()]
        })
        .collect();
    let local: Vec<LocalPod> = objects.pods.values().map(|pod| local(pod)).collect();
    let issues = policy::compile(&Input { local: &local, ..objects.input() }).issues;
    let issues: String = issues.iter().map(|issue| format!("{issue}\n")).collect();
    columns(["NAMESPACE", "NAME", "TYPES", "PODS"], &rows) + &issues
}

/// The rules of a pod, in both directions.
pub(super) fn pod(objects: &Objects, key: &Key) -> String {
    let Some(pod) = objects.pods.get(key) else { return String::new() };
    if pod.host_network {
        return format!("{key} is on its node's network: no NetworkPolicy isolates it\n");
    }
    let local = [local(pod)];
    let tables = policy::compile(&Input { local: &local, ..objects.input() });
    let mut text = String::new();
    for (direction, name) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
        let policies: Vec<String> = isolating(objects, pod, direction).iter().map(Key::to_string).collect();
        if policies.is_empty() {
            text += &format!("{name}: not isolated, everything is allowed\n");
        } else {
            text += &format!("{name}: isolated by {}\n", policies.join(", "));
        }
    }
    let mut rules: Vec<_> = tables.rules.values().collect();
    rules.sort_by_key(|rule| (rule.direction, rule.policy.clone(), rule.index));
    let rows: Vec<[String; 3]> = rules
        .into_iter()
        .map(|rule| {
            let path = format!("spec.{}[{}]", if rule.direction == INGRESS { "ingress" } else { "egress" }, rule.index);
            let place = place(objects, &rule.policy, &path).map_or(path, |place| place);
            // The text begins with the path.
            let (_, what) = rule.text.split_once("] ").unwrap_or(("", &rule.text));
            [rule.policy.to_string(), place, what.to_owned()]
        })
        .collect();
    text + &columns(["POLICY", "RULE", "ALLOWS"], &rows)
}

fn local(pod: &objects::Pod) -> LocalPod {
    LocalPod { key: pod.key.clone(), uid: pod.uid.clone(), addresses: pod.addresses.to_vec() }
}
