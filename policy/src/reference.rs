//! The oracle: may this packet pass? Straight from the text of the NetworkPolicy API, slow, and sharing no code with
//! the compiler but the label selectors. Property tests hold the compiled tables against it.
//!
//! Source: the field documentation of `networking.k8s.io/v1` (NetworkPolicySpec and below); for bad fields, which the
//! API server refuses, Weft's own rule: they match nothing.
use std::net::IpAddr;

use objects::{IntOrString, IpBlock, Key, NetworkPolicy, Pod, PolicyPeer, PolicyPort, PolicyRule};

use crate::compile::Input;

/// A first packet between a pod that is judged and anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// True: the peer sends to the pod.
    pub ingress: bool,
    /// The other side.
    pub peer: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port; 0 for protocols without.
    pub port: u16,
}

/// What the API's text says of a packet, and by whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// "By default, a pod is non-isolated".
    NotIsolated,
    /// Each of these rules (policy, index in `ingress` or `egress`) allows it.
    Allowed(Vec<(Key, usize)>),
    /// These policies isolate the pod, and no rule of theirs allows it.
    Denied(Vec<Key>),
}

/// True if every policy that the API's text speaks of lets the packet pass. `pod` must be a pod of the cluster's network.
pub fn allows(input: &Input, pod: &Pod, packet: &Packet) -> bool {
    !matches!(decide(input, pod, packet), Decision::Denied(_))
}

/// Who decides on the packet. "The policies do not conflict; they are additive".
pub fn decide(input: &Input, pod: &Pod, packet: &Packet) -> Decision {
    let isolating: Vec<&NetworkPolicy> = input
        .policies
        .values()
        .map(|policy| &**policy)
        .filter(|policy| isolates(policy, pod, packet.ingress))
        .collect();
    if isolating.is_empty() {
        return Decision::NotIsolated;
    }
    let mut allowing = Vec::new();
    for policy in &isolating {
        let rules = if packet.ingress { &policy.ingress } else { &policy.egress };
        // Whom a selector means that makes no sense, nobody knows: its rules are nobody's.
        let rules = if policy.pod_selector.fault().is_some() { &[] } else { &**rules };
        let matching = rules.iter().enumerate().filter(|(_, rule)| rule_allows(input, policy, rule, pod, packet));
        allowing.extend(matching.map(|(index, _)| (policy.key.clone(), index)));
    }
    if allowing.is_empty() {
        return Decision::Denied(isolating.iter().map(|policy| policy.key.clone()).collect());
    }
    Decision::Allowed(allowing)
}

fn isolates(policy: &NetworkPolicy, pod: &Pod, ingress: bool) -> bool {
    policy.key.namespace == pod.key.namespace
        && (policy.pod_selector.matches(&pod.labels) || policy.pod_selector.fault().is_some())
        && affects(policy, if ingress { "Ingress" } else { "Egress" })
}

/// "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
/// contain an egress section are assumed to affect egress, and all policies are assumed to affect ingress."
///
/// A type that does not exist is no type; a policy that has one is read as if it had none beside.
fn affects(policy: &NetworkPolicy, direction: &str) -> bool {
    let known = |text: &str| text == "Ingress" || text == "Egress";
    let by_default = direction == "Ingress" || !policy.egress.is_empty();
    let unclear = policy.policy_types.is_empty() || policy.policy_types.iter().any(|text| !known(text));
    (unclear && by_default) || policy.policy_types.iter().any(|text| &**text == direction)
}

/// "The traffic must match both ports and from." "If this field is empty or missing, this rule matches all".
fn rule_allows(input: &Input, policy: &NetworkPolicy, rule: &PolicyRule, pod: &Pod, packet: &Packet) -> bool {
    let owners = pods_at(input, packet.peer);
    let peer =
        rule.peers.is_empty() || rule.peers.iter().any(|peer| peer_matches(input, policy, peer, packet.peer, &owners));
    let destinations = if packet.ingress { vec![pod] } else { owners };
    let port = rule.ports.is_empty() || rule.ports.iter().any(|port| port_matches(port, &destinations, packet));
    peer && port
}

/// The pods of the cluster's network that have the address: one, unless objects contradict each other; then only what
/// holds of all of them holds. Pods of the host's network have their node's, and "NetworkPolicy cannot affect" them;
/// terminated ones have none. This node knows its own pods' addresses itself; a pod that is being deleted may have
/// lost its address to another.
fn pods_at<'a>(input: &Input<'a>, address: IpAddr) -> Vec<&'a Pod> {
    let own = |pod: &Pod| {
        let mine = |local: &&crate::LocalPod| local.key == pod.key && (local.uid.is_empty() || local.uid == pod.uid);
        let addresses: Vec<IpAddr> =
            input.local.iter().filter(mine).flat_map(|local| local.addresses.iter().copied()).collect();
        (!addresses.is_empty()).then_some(addresses)
    };
    let known: Vec<&Pod> = input.pods.values().map(|pod| &**pod).filter(|pod| !pod.host_network).collect();
    let is_here: Vec<&Pod> =
        known.iter().copied().filter(|pod| own(pod).is_some_and(|addresses| addresses.contains(&address))).collect();
    if !is_here.is_empty() {
        return is_here;
    }
    let says_so = |pod: &&Pod| own(pod).is_none() && !pod.terminated() && pod.addresses.contains(&address);
    let (leaving, staying): (Vec<&Pod>, Vec<&Pod>) = known.into_iter().filter(says_so).partition(|pod| pod.deleting);
    if staying.is_empty() { leaving } else { staying }
}

fn peer_matches(input: &Input, policy: &NetworkPolicy, peer: &PolicyPeer, address: IpAddr, pods: &[&Pod]) -> bool {
    let selectors = [&peer.pod_selector, &peer.namespace_selector];
    match &peer.ip_block {
        Some(block) => selectors.iter().all(|s| s.is_none()) && block_matches(block, address),
        None => {
            if selectors.iter().all(|s| s.is_none())
                || selectors.iter().any(|s| s.as_ref().is_some_and(|s| s.fault().is_some()))
            {
                return false;
            }
            !pods.is_empty() && pods.iter().all(|pod| selected(input, policy, peer, pod))
        }
    }
}

/// "If namespaceSelector is set, the pods matching podSelector in the namespaces selected by namespaceSelector";
/// otherwise those of the policy's own namespace.
fn selected(input: &Input, policy: &NetworkPolicy, peer: &PolicyPeer, pod: &Pod) -> bool {
    let in_namespace = match &peer.namespace_selector {
        None => pod.key.namespace == policy.key.namespace,
        Some(selector) => match input.namespaces.get(&Key::cluster(pod.key.namespace.clone())) {
            Some(namespace) => selector.matches(&namespace.labels),
            None => selector.is_empty(),
        },
    };
    in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
}

/// "except is a slice of CIDRs that should not be included within an ipBlock".
fn block_matches(block: &IpBlock, address: IpAddr) -> bool {
    let Some(cidr) = cidr(&block.cidr) else { return false };
    let Some(except) = block.except.iter().map(|text| self::cidr(text)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    within(address, cidr) && !except.iter().any(|hole| within(address, *hole))
}

fn cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u32 = bits.chars().all(|c| c.is_ascii_digit()).then(|| bits.parse().ok())??;
    let (width, mapped) = match address {
        IpAddr::V4(_) => (32, false),
        IpAddr::V6(v6) => (128, v6.to_ipv4_mapped().is_some()),
    };
    (bits <= width && !mapped).then_some((address, bits))
}

/// Bit by bit.
fn within(address: IpAddr, (network, bits): (IpAddr, u32)) -> bool {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (address, network) = (octets(address), octets(network));
    address.len() == network.len()
        && (0..bits as usize).all(|bit| {
            let mask = 0x80 >> (bit % 8);
            address[bit / 8] & mask == network[bit / 8] & mask
        })
}

/// A port of a rule against the packet's; a name means what the destination's containers call so.
fn port_matches(port: &PolicyPort, destinations: &[&Pod], packet: &Packet) -> bool {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match protocol {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        _ => return false,
    };
    if number != packet.proto {
        return false;
    }
    let wanted = i32::from(packet.port);
    match (&port.port, port.end_port) {
        (None, None) => true,
        (Some(IntOrString::Int(first)), last) => {
            let last = last.unwrap_or(*first);
            (1..=65535).contains(first) && (*first..=65535).contains(&last) && (*first..=last).contains(&wanted)
        }
        (Some(IntOrString::Name(name)), None) => {
            let numbers = |pod: &Pod| -> std::collections::BTreeSet<u16> {
                let named = pod.ports.iter().filter(|p| p.name == *name && *p.protocol == *protocol);
                named.map(|p| p.container_port).collect()
            };
            destinations.first().is_some_and(|first| {
                let said = numbers(first);
                said.contains(&packet.port) && destinations.iter().all(|pod| numbers(pod) == said)
            })
        }
        _ => false,
    }
}
