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

/// True if every policy that the API's text speaks of lets the packet pass. `pod` must be a pod of the cluster's network.
pub fn allows(input: &Input, pod: &Pod, packet: &Packet) -> bool {
    let isolating: Vec<&NetworkPolicy> = input
        .policies
        .values()
        .map(|policy| &**policy)
        .filter(|policy| {
            policy.key.namespace == pod.key.namespace
                && (policy.pod_selector.matches(&pod.labels) || policy.pod_selector.fault().is_some())
                && if packet.ingress { affects(policy, "Ingress") } else { affects(policy, "Egress") }
        })
        .collect();
    // "By default, a pod is non-isolated"; "the policies do not conflict; they are additive".
    isolating.is_empty()
        || isolating.iter().any(|policy| {
            let rules = if packet.ingress { &policy.ingress } else { &policy.egress };
            rules.iter().any(|rule| rule_allows(input, policy, rule, pod, packet))
        })
}

/// "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
/// contain an egress section are assumed to affect egress, and all policies are assumed to affect ingress."
fn affects(policy: &NetworkPolicy, direction: &str) -> bool {
    if policy.policy_types.is_empty() {
        return direction == "Ingress" || !policy.egress.is_empty();
    }
    policy.policy_types.iter().any(|text| &**text == direction)
}

/// "The traffic must match both ports and from." "If this field is empty or missing, this rule matches all".
fn rule_allows(input: &Input, policy: &NetworkPolicy, rule: &PolicyRule, pod: &Pod, packet: &Packet) -> bool {
    let peer_pod = pod_at(input, packet.peer);
    let peer =
        rule.peers.is_empty() || rule.peers.iter().any(|peer| peer_matches(input, policy, peer, packet.peer, peer_pod));
    let destination = if packet.ingress { Some(pod) } else { peer_pod };
    let port = rule.ports.is_empty() || rule.ports.iter().any(|port| port_matches(port, destination, packet));
    peer && port
}

/// The pod of the cluster's network that has the address. Pods of the host's network have their node's, and
/// "NetworkPolicy cannot affect" them; terminated ones have none.
fn pod_at<'a>(input: &Input<'a>, address: IpAddr) -> Option<&'a Pod> {
    input.pods.values().map(|pod| &**pod).find(|pod| {
        let local = input.local.iter().find(|local| local.key == pod.key);
        let addresses = local.map_or(&*pod.addresses, |local| &local.addresses);
        !pod.host_network && (local.is_some() || !pod.terminated()) && addresses.contains(&address)
    })
}

fn peer_matches(input: &Input, policy: &NetworkPolicy, peer: &PolicyPeer, address: IpAddr, pod: Option<&Pod>) -> bool {
    let selectors = [&peer.pod_selector, &peer.namespace_selector];
    match &peer.ip_block {
        Some(block) => selectors.iter().all(|s| s.is_none()) && block_matches(block, address),
        None => {
            if selectors.iter().all(|s| s.is_none())
                || selectors.iter().any(|s| s.as_ref().is_some_and(|s| s.fault().is_some()))
            {
                return false;
            }
            let Some(pod) = pod else { return false };
            let in_namespace = match &peer.namespace_selector {
                None => pod.key.namespace == policy.key.namespace,
                Some(selector) => match input.namespaces.get(&Key::cluster(pod.key.namespace.clone())) {
                    Some(namespace) => selector.matches(&namespace.labels),
                    None => selector.is_empty(),
                },
            };
            in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selector.matches(&pod.labels))
        }
    }
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
fn port_matches(port: &PolicyPort, destination: Option<&Pod>, packet: &Packet) -> bool {
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
        (Some(IntOrString::Name(name)), None) => destination.is_some_and(|pod| {
            let named = |p: &&objects::ContainerPort| p.name == *name && *p.protocol == *protocol;
            pod.ports.iter().filter(named).any(|p| p.container_port == packet.port)
        }),
        _ => false,
    }
}
