//! What changes between faults, and during them: pods, their labels, Services and policies, all in one namespace, so that
//! there is something to leak and something to judge.
use serde_json::{Value, json};

use super::{
    NODES,
    bed::{Bed, FIELD, STEADY},
    dice::Dice,
    flood,
};

/// Labels that pods have, policies select and Services mean.
const APPS: [&str; 4] = ["a", "b", "c", "d"];
/// Pods of the field that stay, but for their labels.
const FIXED: usize = 4;
/// At most so many that come and go, policies, and Services.
const SOME: usize = 4;

/// Who sends the steady traffic, and who echoes it on each node.
pub(crate) const SENDER: &str = "sender";
pub(crate) const ECHOES: [&str; 2] = ["echo-1", "echo-2"];
/// The Service in front of the far echo.
pub(crate) const FAR: &str = "far";

/// What is there that was not there at the start.
#[derive(Default)]
pub(crate) struct Changes {
    pods: Vec<String>,
    policies: Vec<String>,
    services: Vec<String>,
    number: usize,
    /// How many changes there were.
    pub(crate) made: usize,
}

/// What stays.
pub(crate) fn fixture(bed: &Bed) {
    bed.create_pod(STEADY, SENDER, NODES[0], "sender");
    for (name, node) in ECHOES.iter().zip(NODES) {
        bed.create_pod(STEADY, name, node, name);
    }
    bed.create_pod(STEADY, flood::FLOODER, NODES[0], "flood");
    bed.create_pod(STEADY, flood::FLOODED, NODES[1], "flood");
    bed.create_service(STEADY, FAR, ECHOES[1]);
    for number in 0..FIXED {
        bed.create_pod(FIELD, &format!("fixed-{number}"), NODES[number % 2], APPS[number]);
    }
}

impl Changes {
    /// One change, in words.
    pub(crate) fn one(&mut self, bed: &Bed, dice: &mut Dice) -> String {
        self.made += 1;
        self.number += 1;
        let number = self.number;
        let path = |kind: &str| match kind {
            "networkpolicies" => format!("/apis/networking.k8s.io/v1/namespaces/{FIELD}/{kind}"),
            _ => format!("/api/v1/namespaces/{FIELD}/{kind}"),
        };
        let app = *dice.pick(&APPS);
        match dice.below(8) {
            0 | 1 if self.pods.len() < SOME => {
                let (name, node) = (format!("pod-{number}"), *dice.pick(&NODES));
                bed.create_pod(FIELD, &name, node, app);
                self.pods.push(name.clone());
                format!("pod {name} ({app}) on {node}")
            }
            2 if self.policies.len() < SOME => {
                let (name, spec) = (format!("policy-{number}"), policy(dice));
                bed.api.create(&path("networkpolicies"), &json!({ "metadata": { "name": name }, "spec": spec }));
                self.policies.push(name.clone());
                format!("{name} {spec}")
            }
            3 if self.services.len() < SOME => {
                let name = format!("service-{number}");
                bed.create_service(FIELD, &name, app);
                self.services.push(name.clone());
                format!("{name} of {app}")
            }
            4 | 5 if !self.pods.is_empty() => removed(bed, dice, &mut self.pods, &path("pods")),
            6 if !self.policies.is_empty() => removed(bed, dice, &mut self.policies, &path("networkpolicies")),
            7 if !self.services.is_empty() => removed(bed, dice, &mut self.services, &path("services")),
            // Its Services' endpoints change with it, and who may reach it.
            _ => {
                let fixed = (0..FIXED).map(|number| format!("fixed-{number}"));
                let names: Vec<String> = fixed.chain(self.pods.iter().cloned()).collect();
                let name = dice.pick(&names);
                let labels = json!({ "metadata": { "labels": { "app": app } } });
                bed.api.patch(&format!("{}/{name}", path("pods")), &labels);
                format!("{name} is {app} now")
            }
        }
    }

    /// Removes all that is not the fixture's.
    pub(crate) fn undo(&mut self, bed: &Bed) {
        let of = |kind: &str| format!("/api/v1/namespaces/{FIELD}/{kind}");
        let policies = format!("/apis/networking.k8s.io/v1/namespaces/{FIELD}/networkpolicies");
        for (names, path) in
            [(&mut self.pods, of("pods")), (&mut self.policies, policies), (&mut self.services, of("services"))]
        {
            names.drain(..).for_each(|name| bed.api.delete(&format!("{path}/{name}")));
        }
    }
}

fn removed(bed: &Bed, dice: &mut Dice, names: &mut Vec<String>, path: &str) -> String {
    let name = names.swap_remove(dice.below(names.len()));
    bed.api.delete(&format!("{path}/{name}"));
    format!("{name} goes")
}

/// A policy for one label: a direction or both, and up to two rules.
fn policy(dice: &mut Dice) -> Value {
    let types = *dice.pick(&[&["Ingress"][..], &["Egress"], &["Ingress", "Egress"]]);
    let mut spec = json!({ "podSelector": { "matchLabels": { "app": dice.pick(&APPS) } }, "policyTypes": types });
    for (kind, rules, peers) in [("Ingress", "ingress", "from"), ("Egress", "egress", "to")] {
        if types.contains(&kind) {
            let rule = |dice: &mut Dice| {
                let mut rule = json!({});
                if dice.below(4) > 0 {
                    rule[peers] = json!([peer(dice)]);
                }
                match dice.below(3) {
                    0 => rule["ports"] = json!([{ "port": 8080, "protocol": "TCP" }]),
                    1 => rule["ports"] = json!([{ "port": 8081, "endPort": 8083 }]),
                    _ => {}
                }
                rule
            };
            spec[rules] = (0..dice.below(3)).map(|_| rule(dice)).collect();
        }
    }
    spec
}

fn peer(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": STEADY } } }),
        1 => json!({ "ipBlock": { "cidr": "10.244.0.0/16", "except": [format!("10.244.{}.0/24", dice.below(2))] } }),
        _ => json!({ "podSelector": { "matchLabels": { "app": dice.pick(&APPS) } } }),
    }
}
