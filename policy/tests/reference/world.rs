//! Random clusters of two nodes: everything that the API can say about policies, and what it should not say.
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use objects::{
    ContainerPort, IntOrString, IpBlock, Key, LabelSelector, Labels, Namespace, NetworkPolicy, Operator, Phase, Pod,
    PolicyPeer, PolicyPort, PolicyRule, Requirement, Store,
};
use policy::{Input, LocalPod};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Addresses of the nodes.
pub(crate) const NODES: [&str; 2] = ["172.31.0.11", "172.31.0.12"];
const NAMESPACES: [&str; 3] = ["red", "blue", "gone"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 3] = ["x", "y", "z"];
const NAMES: [&str; 2] = ["http", "dns"];
const PORTS: [i32; 7] = [53, 80, 81, 443, 8080, 1000, 65535];
const CIDRS: [&str; 16] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.244.0.0/16",
    "10.244.1.0/24",
    "10.244.1.4/30",
    "10.244.1.5/32",
    "192.0.2.0/24",
    "10.244.1.7/24",
    "10.244.2.4/31",
    "172.31.0.0/24",
    "172.31.0.12/32",
    "::/0",
    "::/1",
    "fd00::/8",
    "fd00::5/128",
    "10.0.0.0/99",
];
/// Addresses that are no pod's.
pub(crate) const OTHERS: [&str; 6] =
    ["192.0.2.1", "10.244.1.200", "10.9.9.9", "2001:db8::1", "172.31.0.11", "172.31.0.12"];

/// Few keys and values, so that selectors often match.
pub(crate) fn labels() -> impl Strategy<Value = Labels> {
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

/// A policy without a name.
pub(crate) fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = select(vec![
        vec![],
        vec!["Ingress"],
        vec!["Egress"],
        vec!["Ingress", "Egress"],
        vec!["Odd"],
        vec!["Odd", "Egress"],
    ]);
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

/// What is drawn of a pod; what it is called and which address it has depends on the others.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) namespace: &'static str,
    pub(crate) labels: Labels,
    pub(crate) ports: Box<[ContainerPort]>,
    pub(crate) phase: Phase,
    pub(crate) host_network: bool,
    pub(crate) deleting: bool,
    /// Which node has it.
    pub(crate) node: usize,
    /// Its address is the one of the pod before, which came later: this one's sandbox is gone.
    pub(crate) gone: bool,
    /// The API server has not heard of its address.
    pub(crate) unheard: bool,
    /// Counted up when another pod of the same name takes its place and its address.
    pub(crate) life: usize,
}

/// Ports of a pod: names that differ from pod to pod, and by protocol.
pub(crate) fn ports() -> impl Strategy<Value = Box<[ContainerPort]>> {
    let named = (select(&NAMES[..]), select(vec![53_u16, 80, 81, 8080]), select(vec!["TCP", "UDP", "TCP", "SCTP"]));
    vec(named, 0..4).prop_map(|ports| {
        let port = |(name, container_port, protocol): (&str, u16, &str)| ContainerPort {
            name: name.into(),
            container_port,
            protocol: protocol.into(),
        };
        ports.into_iter().map(port).collect()
    })
}

/// A pod.
pub(crate) fn draft() -> impl Strategy<Value = Draft> {
    let phase = select(vec![Phase::Running, Phase::Running, Phase::Running, Phase::Pending, Phase::Failed]);
    let chance = prop::bool::weighted;
    let flags = (chance(0.1), chance(0.1), chance(0.15), chance(0.2));
    (select(&NAMESPACES[..]), labels(), ports(), phase, 0..2_usize, flags).prop_map(
        |(namespace, labels, ports, phase, node, (host_network, deleting, gone, unheard))| {
            let gone = gone && !host_network;
            Draft { namespace, labels, ports, phase, host_network, deleting, node, gone, unheard, life: 0 }
        },
    )
}

/// A cluster: its objects, and what each node knows of its own pods.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) pods: Store<Pod>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) policies: Store<NetworkPolicy>,
    pub(crate) ledgers: [Vec<LocalPod>; 2],
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    /// By number; the number says name and address.
    pub(crate) pods: BTreeMap<usize, Draft>,
    pub(crate) policies: BTreeMap<usize, NetworkPolicy>,
    pub(crate) namespaces: Vec<Labels>,
}

/// Parts of a cluster.
pub(crate) fn seed() -> impl Strategy<Value = Seed> {
    (vec(draft(), 4..9), vec(policy(), 0..5), vec(labels(), 2)).prop_map(|(pods, policies, namespaces)| Seed {
        pods: pods.into_iter().enumerate().collect(),
        policies: policies.into_iter().enumerate().collect(),
        namespaces,
    })
}

/// A cluster.
pub(crate) fn world() -> impl Strategy<Value = World> {
    seed().prop_map(|seed| World::of(&seed))
}

impl World {
    /// Addresses go by number. One that is gone has the address of the number before.
    pub(crate) fn of(seed: &Seed) -> World {
        let mut world = World::default();
        for (number, draft) in &seed.pods {
            let before = number.checked_sub(1).and_then(|before| seed.pods.get(&before));
            let heir = before.filter(|before| draft.gone && !before.gone && !before.host_network);
            world.add_pod(*number, draft, heir);
        }
        for (number, policy) in &seed.policies {
            let mut policy = policy.clone();
            policy.key.name = format!("np{number}").into();
            world.policies.insert(policy.key.clone(), Arc::new(policy));
        }
        for (name, labels) in NAMESPACES.iter().zip(&seed.namespaces) {
            let (key, labels) = (Key::cluster(*name), labels.clone());
            world.namespaces.insert(key.clone(), Arc::new(Namespace { key, labels, ..Namespace::default() }));
        }
        world
    }

    fn add_pod(&mut self, number: usize, draft: &Draft, heir: Option<&Draft>) {
        let (node, at) = heir.map_or((draft.node, number), |heir| (heir.node, number - 1));
        let own = || [format!("10.244.{}.{}", node + 1, at + 3), format!("fd00::{}:{}", node + 1, at + 3)];
        let addresses: Vec<IpAddr> = match draft.host_network {
            true => vec![NODES[node].parse().unwrap()],
            false => own().iter().map(|text| text.parse().unwrap()).collect(),
        };
        let key = Key::new(draft.namespace, format!("p{number}"));
        let uid: Box<str> = format!("{}", number * 4 + draft.life).into();
        let here = !draft.host_network && !draft.gone;
        if here {
            self.ledgers[node].push(LocalPod { key: key.clone(), uid: uid.clone(), addresses: addresses.clone() });
        }
        let pod = Pod {
            key: key.clone(),
            uid,
            labels: draft.labels.clone(),
            ports: draft.ports.clone(),
            // Of two live pods with one address the API server never hears, but for a moment.
            phase: if heir.is_some() && !number.is_multiple_of(4) { Phase::Failed } else { draft.phase },
            host_network: draft.host_network,
            deleting: draft.deleting,
            node: format!("node-{}", node + 1).into(),
            addresses: if here && draft.unheard { Box::default() } else { addresses.into() },
            ..Pod::default()
        };
        self.pods.insert(key, Arc::new(pod));
    }

    /// What the agent of a node compiles.
    pub(crate) fn input(&self, node: usize) -> Input<'_> {
        let World { pods, namespaces, policies, ledgers } = self;
        Input { pods, namespaces, policies, local: &ledgers[node] }
    }
}

/// Protocols and ports at the edges of what rules name.
pub(crate) fn packets() -> impl Iterator<Item = (u8, u16)> {
    let ports = [53, 80, 81, 82, 442, 8080, 500, 1000, 65535];
    ports.into_iter().flat_map(|port| [(6, port), (17, port)]).chain([(132, 80), (132, 53), (1, 0)])
}
