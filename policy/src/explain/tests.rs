//! The guestbook's policy, and a pod that may not send, explained.
use std::{collections::BTreeMap, sync::Arc};

use objects::{LabelSelector, NetworkPolicy, Phase, PolicyPeer, PolicyPort, PolicyRule, Store};

use super::*;

fn pod(name: &str, address: &str, host_network: bool) -> (Key, Arc<Pod>) {
    let key = Key::new("g", name);
    let labels = [("app", name)].into_iter().collect();
    let addresses = address.split(',').filter_map(|text| text.parse().ok()).collect();
    let node = if name == "host" { "node-2" } else { "node-1" }.into();
    (key.clone(), Arc::new(Pod { key, labels, node, addresses, host_network, phase: Phase::Running, ..Pod::default() }))
}

fn selector(app: &str) -> LabelSelector {
    LabelSelector { match_labels: [("app".into(), app.into())].into(), ..LabelSelector::default() }
}

fn policies() -> Store<NetworkPolicy> {
    let peer = PolicyPeer { pod_selector: Some(selector("front")), ..PolicyPeer::default() };
    let port = PolicyPort { port: Some(objects::IntOrString::Int(80)), ..PolicyPort::default() };
    let front_only = NetworkPolicy {
        key: Key::new("g", "front-only"),
        pod_selector: selector("back"),
        ingress: vec![PolicyRule { peers: vec![peer], ports: vec![port] }],
        ..NetworkPolicy::default()
    };
    let silent = NetworkPolicy {
        key: Key::new("g", "silent"),
        pod_selector: selector("mute"),
        policy_types: vec!["Egress".into()],
        ..NetworkPolicy::default()
    };
    [front_only, silent].into_iter().map(|policy| (policy.key.clone(), Arc::new(policy))).collect()
}

fn party(text: &str) -> Party {
    text.parse().map_or_else(|_| Party::Pod(Key::new("g", text)), Party::Address)
}

#[track_caller]
fn check(from: &str, to: &str, port: u16, expected: &str) {
    let pods: Store<Pod> = [
        pod("front", "10.0.0.1", false),
        pod("back", "10.0.0.2,fd00::2", false),
        pod("mute", "10.0.0.3", false),
        pod("host", "192.0.2.1", true),
        pod("kubelet", "192.0.2.2", true),
        pod("new", "", false),
    ]
    .into();
    let policies = policies();
    let input = Input { pods: &pods, namespaces: &BTreeMap::new(), policies: &policies, local: &[] };
    let question = Question { from: party(from), to: party(to), proto: 6, port };
    let answer = explain(&input, &question).map_or_else(|error| error.to_string(), |found| found.to_string());
    assert_eq!(answer.trim_end(), expected);
}

#[test]
fn by_rule_and_by_default() {
    let rule = "passes: g/back by g/front-only ingress[0] from pods {app=front} in namespace g ports TCP/80";
    check("front", "back", 80, &format!("allowed\n  egress: passes: no policy isolates g/front\n  ingress: {rule}"));
    let denied = "denied: g/back is isolated by g/front-only, and no rule allows it";
    check("front", "back", 81, &format!("denied\n  egress: passes: no policy isolates g/front\n  ingress: {denied}"));
    let nobody = "passes: no pod of the cluster's network on this side";
    check("host", "back", 80, &format!("denied\n  egress: {nobody}\n  ingress: {denied}"));
    check(
        "10.0.0.1",
        "10.0.0.2",
        80,
        &format!("allowed\n  egress: passes: no policy isolates g/front\n  ingress: {rule}"),
    );
    let mute = "denied: g/mute is isolated by g/silent, and no rule allows it";
    check("mute", "192.0.2.9", 80, &format!("denied\n  egress: {mute}\n  ingress: {nobody}"));
}

#[test]
fn itself_and_nobody() {
    let itself = "passes: a pod always reaches itself";
    check("mute", "mute", 80, &format!("allowed\n  egress: {itself}\n  ingress: {itself}"));
    check("gone", "back", 80, "pod g/gone not found");
    check("front", "new", 80, "pod g/new has no address yet");
    check("front", "fd00::2", 80, "the two have no addresses of the same family");
}
