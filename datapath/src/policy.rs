//! NetworkPolicy: may this flow be? Judged on a flow's first packet and whenever its rules have changed, never between.
//!
//! Between `service` and `route`. Sees the original source and the backend, so rules mean pods and never services. Tables
//! come from `policy::compile`; their layout is in `abi::policy` and `abi::peer`.
use crate::{Stage, State, Step, Tables, parse::is_icmp};
use abi::{
    Addr, DropReason,
    flow::Tuple,
    peer::ANY,
    pod::{HOST, ISOLATED_EGRESS, ISOLATED_INGRESS, NONE, PEERS_NAMED, PodId},
    policy::{ALLOW, BITS_FULL, EGRESS, INGRESS, PolicyKey, PolicyValue, RuleId, SetId},
};

/// By direction.
const ISOLATED: [u8; 2] = [ISOLATED_INGRESS, ISOLATED_EGRESS];

/// A flow as policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Source before, destination after translation.
    pub tuple: Tuple,
    /// IP protocol number.
    pub proto: u8,
    /// The sending pod of this node, [`HOST`], or none.
    pub source: PodId,
    /// The receiving pod of this node, [`HOST`], or none.
    pub dest: PodId,
}

/// Why not: the reason, and the rule (or, for the default deny, the policy set) that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// [`DropReason::PolicyDeniedEgress`] or [`DropReason::PolicyDeniedIngress`].
    pub reason: DropReason,
    /// The rule or set.
    pub rule: RuleId,
}

/// The stage.
#[inline(always)]
pub fn judge(tables: &impl Tables, state: &mut State) -> Result<Step, DropReason> {
    let question = Question { tuple: state.judged, proto: state.packet.proto, source: state.source, dest: state.dest };
    match check(tables, &question, state.epoch) {
        Ok(rules) => state.rules = rules,
        Err(denied) => {
            state.rules = [denied.rule; 2];
            return Err(denied.reason);
        }
    }
    Ok(Step::Slow(if state.renew == 0 { Stage::Route } else { Stage::Record }))
}

/// The rules that allow the flow (egress, ingress; 0 where nothing isolates), or who denies it.
#[inline(always)]
pub fn check(tables: &impl Tables, question: &Question, epoch: u64) -> Result<[RuleId; 2], Denied> {
    let Question { tuple, proto, source, dest } = *question;
    let mut rules = [0; 2];
    if source == dest && source != NONE {
        return Ok(rules); // To itself: no policy forbids that.
    }
    let port = if is_icmp(proto) { 0 } else { tuple.dport };
    let side = (epoch & 1) as usize;
    if let Some((set, named)) = isolating(tables, source, side, EGRESS) {
        let denied = DropReason::PolicyDeniedEgress;
        rules[0] = decide(tables, &tuple.dst, &key(set, EGRESS, proto, port), named)
            .map_err(|rule| Denied { reason: denied, rule })?;
    }
    if source == HOST {
        return Ok(rules); // Probes of a node to its own pods always pass.
    }
    if let Some((set, named)) = isolating(tables, dest, side, INGRESS) {
        let denied = DropReason::PolicyDeniedIngress;
        rules[1] = decide(tables, &tuple.src, &key(set, INGRESS, proto, port), named)
            .map_err(|rule| Denied { reason: denied, rule })?;
    }
    Ok(rules)
}

/// The policy set of a pod of this node, if it is isolated that way, and whether all its rules name their peers.
#[inline(always)]
fn isolating(tables: &impl Tables, pod: PodId, side: usize, direction: u8) -> Option<(SetId, bool)> {
    if pod == NONE || pod == HOST {
        return None;
    }
    let row = tables.pod(pod)?;
    let bits = row.isolated[side & 1];
    let (isolated, named) = (ISOLATED[usize::from(direction & 1)], PEERS_NAMED[usize::from(direction & 1)]);
    (bits & isolated != 0).then(|| (row.policy_set[side & 1], bits & named != 0))
}

#[inline(always)]
fn key(set: SetId, direction: u8, proto: u8, port: u16) -> PolicyKey {
    PolicyKey { prefix_len: BITS_FULL, set, class: ANY, direction, proto, port }
}

/// The row of the peer's class and the row of any peer, unless all rules name their peers: the better precedence wins, deny on
/// a tie.
#[inline(always)]
fn decide(tables: &impl Tables, peer: &Addr, any: &PolicyKey, named: bool) -> Result<RuleId, RuleId> {
    let wide = if named { None } else { tables.rule(any) };
    let class = match tables.peer(peer) {
        Some(class) => class,
        None => tables.cidr(peer).unwrap_or(ANY),
    };
    let narrow = if class == ANY { None } else { tables.rule(&PolicyKey { class, ..*any }) };
    match (narrow, wide) {
        (Some(narrow), Some(wide)) => answer(if better(narrow, wide) { narrow } else { wide }),
        (Some(row), None) | (None, Some(row)) => answer(row),
        (None, None) => Err(any.set),
    }
}

#[inline(always)]
fn better(a: &PolicyValue, b: &PolicyValue) -> bool {
    a.precedence < b.precedence || (a.precedence == b.precedence && a.verdict != ALLOW)
}

#[inline(always)]
fn answer(row: &PolicyValue) -> Result<RuleId, RuleId> {
    if row.verdict == ALLOW { Ok(row.rule) } else { Err(row.rule) }
}
