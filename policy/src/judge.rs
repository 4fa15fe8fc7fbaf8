//! Asks compiled tables for a verdict, as `datapath::policy` does: `PEERS`, else `CIDRS`; then `POLICY` for the class
//! and for any peer, the better precedence wins.
use std::collections::BTreeSet;

use abi::{
    Addr,
    addr::Prefix,
    peer::{ANY, Class},
    pod::{ISOLATED_EGRESS, ISOLATED_INGRESS},
    policy::{ALLOW, BITS_ANY_PORT, BITS_ANY_PROTO, BITS_FULL, INGRESS, PolicyKey, PolicyValue, RuleId},
};

use crate::{
    peer::masked,
    tables::{Output, PodPolicy},
};

/// Tables, ready to be asked.
pub struct Judge<'a> {
    tables: &'a Output,
    /// Longest first.
    cidr_lengths: Vec<u32>,
}

/// A first packet, from the view of the pod that is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// The pod's row.
    pub pod: PodPolicy,
    /// [`abi::policy::INGRESS`]: the peer sends to the pod; [`abi::policy::EGRESS`]: the pod sends to the peer.
    pub direction: u8,
    /// The other side.
    pub peer: Addr,
    /// IP protocol number.
    pub proto: u8,
    /// Destination port; 0 for protocols without.
    pub port: u16,
}

/// What the tables say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No policy isolates the pod in this direction.
    NotIsolated,
    /// A rule allows it.
    Allowed(RuleId),
    /// A rule denies it.
    Denied(RuleId),
    /// No rule speaks of it: the policies of the set deny it.
    DefaultDeny,
}

impl Verdict {
    /// True if the packet may pass.
    pub fn passes(self) -> bool {
        matches!(self, Verdict::NotIsolated | Verdict::Allowed(_))
    }
}

impl<'a> Judge<'a> {
    /// Of these tables.
    pub fn new(tables: &'a Output) -> Judge<'a> {
        let lengths: BTreeSet<u32> = tables.cidrs.keys().map(|prefix| prefix.prefix_len).collect();
        Judge { tables, cidr_lengths: lengths.into_iter().rev().collect() }
    }

    /// The verdict on a first packet.
    pub fn judge(&self, query: &Query) -> Verdict {
        let bit = if query.direction == INGRESS { ISOLATED_INGRESS } else { ISOLATED_EGRESS };
        if query.pod.isolated & bit == 0 {
            return Verdict::NotIsolated;
        }
        let of_class = self.class(query.peer).and_then(|class| self.row(query, class));
        let of_any = self.row(query, ANY);
        // Lower precedence wins; on a tie deny, whose number is higher, does; of two alike, any peer's.
        let row = of_any.into_iter().chain(of_class).min_by_key(|row| (row.precedence, u8::MAX - row.verdict));
        match row {
            None => Verdict::DefaultDeny,
            Some(row) if row.verdict == ALLOW => Verdict::Allowed(row.rule),
            Some(row) => Verdict::Denied(row.rule),
        }
    }

    /// The class of an address, if it has one.
    pub fn class(&self, addr: Addr) -> Option<Class> {
        if let Some(class) = self.tables.peers.get(&addr) {
            return Some(*class);
        }
        self.cidr_lengths.iter().find_map(|&prefix_len| {
            self.tables.cidrs.get(&Prefix { prefix_len, addr: masked(addr, prefix_len) }).copied()
        })
    }

    fn row(&self, query: &Query, class: Class) -> Option<&'a PolicyValue> {
        (BITS_ANY_PORT..=BITS_FULL).rev().chain([BITS_ANY_PROTO]).find_map(|prefix_len| {
            let port_bits = prefix_len.saturating_sub(BITS_ANY_PORT);
            let port = query.port & u16::MAX.checked_shl(16 - port_bits).unwrap_or(0);
            let proto = if prefix_len == BITS_ANY_PROTO { 0 } else { query.proto };
            let (set, direction) = (query.pod.set, query.direction);
            self.tables.rows.get(&PolicyKey { prefix_len, set, class, direction, proto, port: port.to_be() })
        })
    }
}
