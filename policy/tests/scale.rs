//! The compiler at a large cluster's size: bounded rows, and a time that is printed, not asserted.
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Instant};

use objects::{Key, LabelSelector, Namespace, NetworkPolicy, Phase, Pod, PolicyPeer, PolicyRule};
use policy::{Input, LocalPod, compile};

/// 20,000 pods in 100 namespaces, of which 100 are local; in each namespace three apps, and policies between them.
#[test]
fn rows_depend_on_the_policies_of_this_node() {
    let (mut pods, mut namespaces, mut policies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut local = Vec::new();
    for number in 0..20_000_u32 {
        let key = Key::new(format!("ns-{}", number % 100), format!("pod-{number}"));
        let address = Ipv4Addr::from(0x0a00_0000 + number).into();
        let app = ["web", "api", "db"][(number / 100 % 3) as usize];
        let pod = Pod {
            key: key.clone(),
            labels: [("app", app), ("pod", number.to_string().as_str())].into_iter().collect(),
            addresses: [address].into(),
            phase: Phase::Running,
            ..Pod::default()
        };
        if number < 100 {
            local.push(LocalPod { key: key.clone(), uid: "".into(), addresses: vec![address] });
        }
        pods.insert(key, Arc::new(pod));
    }
    for number in 0..100 {
        let key = Key::cluster(format!("ns-{number}"));
        namespaces.insert(key.clone(), Arc::new(Namespace { key, ..Namespace::default() }));
        for (from, to) in [("web", "api"), ("api", "db"), ("db", "web")] {
            let selector = |app: &str| LabelSelector {
                match_labels: [("app".into(), app.into())].into(),
                ..LabelSelector::default()
            };
            let peer = PolicyPeer { pod_selector: Some(selector(from)), ..PolicyPeer::default() };
            let policy = NetworkPolicy {
                key: Key::new(format!("ns-{number}"), format!("{from}-to-{to}")),
                pod_selector: selector(to),
                ingress: vec![PolicyRule { peers: vec![peer], ports: Vec::new() }],
                ..NetworkPolicy::default()
            };
            policies.insert(policy.key.clone(), Arc::new(policy));
        }
    }
    let start = Instant::now();
    let output = compile(&Input { pods: &pods, namespaces: &namespaces, policies: &policies, local: &local });
    println!("compiled in {:?}", start.elapsed());
    // Each local pod is alone in its namespace's app "web", which the "db" pods may reach.
    assert_eq!((output.pods.len(), output.sets.len(), output.rows.len()), (100, 100, 100));
    assert_eq!(output.classes.len(), 100);
    let peers = pods.values().filter(|pod| pod.labels.get("app") == Some("db")).count();
    assert_eq!(output.peers.len(), peers);
}
