//! The compiled tables against the oracle: random policies, pods and packets, one answer, whether `policy::Judge` asks
//! the tables or the datapath's own stage does. At least 200,000 judged packets a run.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

#[path = "reference/maps.rs"]
mod maps;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use abi::policy::{EGRESS, INGRESS, RuleId};
use maps::Maps;
use objects::{
    ContainerPort, IntOrString, IpBlock, Key, LabelSelector, Labels, Namespace, NetworkPolicy, Operator, Phase, Pod,
    PolicyPeer, PolicyPort, PolicyRule, Requirement,
};
use policy::{Input, Judge, LocalPod, Query, Verdict, compile, reference};
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::TestRunner};

const NAMESPACES: [&str; 3] = ["red", "blue", "gone"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["x", "y", "z"];
const NAMES: [&str; 2] = ["http", "dns"];
const PORTS: [i32; 7] = [53, 80, 81, 443, 8080, 1000, 65535];
const CIDRS: [&str; 13] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "10.244.1.4/30",
    "10.244.1.5/32",
    "192.0.2.0/24",
    "10.244.1.7/24",
    "::/0",
    "::/1",
    "fd00::/8",
    "fd00::5/128",
    "10.0.0.0/99",
];
/// Addresses that are no pod's.
const OTHERS: [&str; 5] = ["192.0.2.1", "10.244.1.200", "10.9.9.9", "2001:db8::1", "172.31.0.11"];

fn labels() -> impl Strategy<Value = Labels> {
    vec((select(&KEYS[..]), select(&VALUES[..])), 0..3).prop_map(|pairs| pairs.into_iter().collect())
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let operator = select(vec![
        Operator::In,
        Operator::NotIn,
        Operator::Exists,
        Operator::DoesNotExist,
        Operator::Exists,
        Operator::Unknown,
    ]);
    let values = vec(select(&VALUES[..]).prop_map(Box::from), 0..3);
    let requirement = (select(&KEYS[..]), operator, values).prop_map(|(key, operator, values)| {
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        Requirement { key: key.into(), operator, values: if takes_values { values } else { Vec::new() } }
    });
    let pairs = vec((select(&KEYS[..]), select(&VALUES[..])), 0..2);
    (pairs, vec(requirement, 0..2)).prop_map(|(pairs, match_expressions)| LabelSelector {
        match_labels: pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        match_expressions,
    })
}

fn peer() -> impl Strategy<Value = PolicyPeer> {
    let block = (select(&CIDRS[..]), vec(select(&CIDRS[..]).prop_map(Box::from), 0..3))
        .prop_map(|(cidr, except)| IpBlock { cidr: cidr.into(), except });
    prop_oneof![
        4 => (option::of(selector()), option::of(selector())).prop_map(|(pods, namespaces)| PolicyPeer {
            pod_selector: pods, namespace_selector: namespaces, ip_block: None }),
        3 => block.clone().prop_map(|block| PolicyPeer { ip_block: Some(block), ..PolicyPeer::default() }),
        1 => (block, selector()).prop_map(|(block, pods)| PolicyPeer {
            ip_block: Some(block), pod_selector: Some(pods), namespace_selector: None }),
    ]
}

fn port() -> impl Strategy<Value = PolicyPort> {
    let number = prop_oneof![5 => select(&PORTS[..]), 1 => select(vec![0, -1, 70_000])];
    let port = prop_oneof![
        number.prop_map(IntOrString::Int),
        select(&NAMES[..]).prop_map(|name| IntOrString::Name(name.into())),
    ];
    let protocol = select(vec![Some("TCP"), Some("UDP"), Some("SCTP"), Some("ICMP"), None, None]);
    let end = prop_oneof![3 => Just(None), 1 => select(&PORTS[..]).prop_map(Some)];
    (protocol, option::weighted(0.8, port), end).prop_map(|(protocol, port, end_port)| PolicyPort {
        protocol: protocol.map(Box::from),
        port,
        end_port,
    })
}

fn rules() -> impl Strategy<Value = Vec<PolicyRule>> {
    vec((vec(peer(), 0..3), vec(port(), 0..3)).prop_map(|(peers, ports)| PolicyRule { peers, ports }), 0..3)
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = select(vec![vec![], vec!["Ingress"], vec!["Egress"], vec!["Ingress", "Egress"], vec!["Odd"]]);
    let selector = prop_oneof![Just(LabelSelector::default()), selector()];
    (select(&NAMESPACES[..]), selector, rules(), rules(), types).prop_map(
        |(namespace, pod_selector, ingress, egress, types)| NetworkPolicy {
            key: Key::new(namespace, ""),
            pod_selector,
            ingress,
            egress,
            policy_types: types.into_iter().map(Box::from).collect(),
            ..NetworkPolicy::default()
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let named = (select(&NAMES[..]), select(vec![53_u16, 80, 81, 8080]), select(vec!["TCP", "UDP"]));
    let ports = vec(named, 0..4).prop_map(|ports| {
        let port = |(name, container_port, protocol): (&str, u16, &str)| ContainerPort {
            name: name.into(),
            container_port,
            protocol: protocol.into(),
        };
        ports.into_iter().map(port).collect()
    });
    let phase = select(vec![Phase::Running, Phase::Running, Phase::Running, Phase::Pending, Phase::Failed]);
    (select(&NAMESPACES[..]), labels(), ports, phase, prop::bool::weighted(0.1)).prop_map(
        |(namespace, labels, ports, phase, host_network)| Pod {
            key: Key::new(namespace, ""),
            labels,
            ports,
            phase,
            host_network,
            ..Pod::default()
        },
    )
}

#[derive(Debug)]
struct World {
    pods: BTreeMap<Key, Arc<Pod>>,
    namespaces: BTreeMap<Key, Arc<Namespace>>,
    policies: BTreeMap<Key, Arc<NetworkPolicy>>,
    local: Vec<LocalPod>,
}

/// The first four pods are local; addresses are given out in order, so none is claimed twice.
fn world() -> impl Strategy<Value = World> {
    (vec(pod(), 4..9), vec(policy(), 0..5), vec(labels(), 2)).prop_map(|(pods, policies, namespaces)| {
        let mut world =
            World { pods: BTreeMap::new(), namespaces: BTreeMap::new(), policies: BTreeMap::new(), local: Vec::new() };
        for (index, mut pod) in pods.into_iter().enumerate() {
            pod.key.name = format!("p{index}").into();
            let [v4, v6] = [format!("10.244.1.{}", index + 3), format!("fd00::{}", index + 3)];
            pod.addresses = [v4, v6].iter().map(|text| text.parse().unwrap()).collect();
            if pod.host_network {
                pod.addresses = ["172.31.0.11".parse().unwrap()].into();
            } else if index < 4 {
                let (key, addresses) = (pod.key.clone(), pod.addresses.to_vec());
                world.local.push(LocalPod { key, uid: "".into(), addresses });
                // The API server has not heard of it yet.
                pod.addresses = if index % 2 == 0 { Box::default() } else { pod.addresses };
            }
            world.pods.insert(pod.key.clone(), Arc::new(pod));
        }
        for (index, mut policy) in policies.into_iter().enumerate() {
            policy.key.name = format!("np{index}").into();
            world.policies.insert(policy.key.clone(), Arc::new(policy));
        }
        for (name, labels) in NAMESPACES.iter().zip(namespaces) {
            let key = Key::cluster(*name);
            world.namespaces.insert(key.clone(), Arc::new(Namespace { key, labels, ..Namespace::default() }));
        }
        world
    })
}

/// Every local pod with everybody, both ways, on ports at the edges of what rules name. Returns how many a policy
/// judged.
fn agree(world: &World) -> usize {
    let World { pods, namespaces, policies, local } = world;
    let input = Input { pods, namespaces, policies, local };
    let tables = compile(&input);
    let judge = Judge::new(&tables);
    let pod_peers = (3..12).flat_map(|n| [format!("10.244.1.{n}"), format!("fd00::{n}")]);
    let peers: Vec<IpAddr> =
        pod_peers.chain(OTHERS.iter().map(ToString::to_string)).map(|text| text.parse().unwrap()).collect();
    let mut count = 0;
    for LocalPod { key, .. } in local {
        let compiled = tables.pods[key];
        let maps = Maps::new(&tables, compiled);
        for &peer in &peers {
            for (proto, port) in packets() {
                for ingress in [true, false] {
                    let direction = if ingress { INGRESS } else { EGRESS };
                    let query = Query { pod: compiled, direction, peer: peer.into(), proto, port };
                    let packet = reference::Packet { ingress, peer, proto, port };
                    let expected = reference::allows(&input, &pods[key], &packet);
                    let verdict = judge.judge(&query);
                    assert_eq!(verdict.passes(), expected, "{key} {packet:?}: {verdict:?}\n{world:#?}\n{tables}");
                    let stage = maps.judge(&query);
                    assert_eq!(stage, said_by(verdict, &query), "{key} {packet:?}\n{world:#?}\n{tables}");
                    count += usize::from(verdict != Verdict::NotIsolated);
                }
            }
        }
    }
    count
}

/// What the datapath's stage answers when the tables say this: the rule, or who denied.
fn said_by(verdict: Verdict, query: &Query) -> Result<RuleId, RuleId> {
    match verdict {
        Verdict::NotIsolated => Ok(0),
        Verdict::Allowed(rule) => Ok(rule),
        Verdict::Denied(rule) => Err(rule),
        Verdict::DefaultDeny => Err(query.pod.set),
    }
}

fn packets() -> impl Iterator<Item = (u8, u16)> {
    let ports = [53, 80, 81, 82, 442, 8080, 500, 1000, 65535];
    ports.into_iter().flat_map(|port| [(6, port), (17, port)]).chain([(132, 80), (1, 0)])
}

#[test]
fn the_tables_say_what_the_api_says() {
    let count = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let run = TestRunner::new(config).run(&world(), |world| {
        count.fetch_add(agree(&world), Ordering::Relaxed);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
    assert!(count.into_inner() >= 200_000);
}
