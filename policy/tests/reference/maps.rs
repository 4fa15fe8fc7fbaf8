//! Compiled tables in the datapath's own node in memory, whose keys are bytes and whose longest prefix is found bit by
//! bit, as in the kernel: layout, byte order and the policy stage are tried together.
use abi::{
    Addr, DropReason,
    flow::Tuple,
    pod::{NONE, Pod, PodId},
    policy::{EGRESS, RuleId},
};
use datapath::{
    policy::{Question, check},
    sim::Node,
};
use policy::{Output, PodPolicy, Query};

/// The pod that is judged.
const JUDGED: PodId = 7;

pub(crate) struct Maps(Node);

impl Maps {
    /// A node with these tables, and one pod.
    pub(crate) fn new(tables: &Output, pod: PodPolicy) -> Maps {
        let mut node = Node { epoch: 1, peers: tables.peers.clone(), ..Node::default() };
        tables.cidrs.iter().for_each(|(prefix, class)| node.cidr(*prefix, *class));
        tables.rows.iter().for_each(|(key, value)| node.rule(key, *value));
        // The other side of the epoch holds what must not be read.
        let (policy_set, isolated) = ([u32::MAX, pod.set], [3, pod.isolated]);
        node.pod.insert(JUDGED, Pod { policy_set, isolated, ..Pod::default() });
        Maps(node)
    }

    /// The rule that allows, or the rule or set that denies.
    pub(crate) fn judge(&self, query: &Query) -> Result<RuleId, RuleId> {
        let own = Addr::from_octets([10, 244, 1, 99]);
        let egress = query.direction == EGRESS;
        let (src, dst, source, dest) =
            if egress { (own, query.peer, JUDGED, NONE) } else { (query.peer, own, NONE, JUDGED) };
        let tuple = Tuple { src, dst, sport: 0, dport: query.port.to_be() };
        match check(&self.0, &Question { tuple, proto: query.proto, source, dest }, self.0.epoch) {
            Ok(rules) => Ok(rules[usize::from(!egress)]),
            Err(denied) => {
                let reason = if egress { DropReason::PolicyDeniedEgress } else { DropReason::PolicyDeniedIngress };
                assert_eq!(denied.reason, reason);
                Err(denied.rule)
            }
        }
    }
}
