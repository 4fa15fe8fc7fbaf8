//! What the compiler makes: rows for the maps, and what people want to know of them.
use std::collections::BTreeMap;

use abi::{
    Addr,
    addr::Prefix,
    peer::Class,
    policy::{PolicyKey, PolicyValue, RuleId, SetId},
};
use objects::{Issue, Key};

/// The policy tables of one node. Its `Display` is the sorted text form of golden tests and `weft table dump`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// `PEERS`: every pod address that a selector or a named port of a rule distinguishes.
    pub peers: BTreeMap<Addr, Class>,
    /// `CIDRS`: every prefix that a block or a hole of a rule names.
    pub cidrs: BTreeMap<Prefix, Class>,
    /// `POLICY`.
    pub rows: BTreeMap<PolicyKey, PolicyValue>,
    /// Of each local pod that the objects know. A local pod that is missing here has no policy in force yet.
    pub pods: BTreeMap<Key, PodPolicy>,
    /// What a rule id stands for.
    pub rules: BTreeMap<RuleId, Rule>,
    /// What a set id stands for.
    pub sets: BTreeMap<SetId, Set>,
    /// What the addresses of a class satisfy.
    pub classes: BTreeMap<Class, String>,
    /// Bad policies, sorted.
    pub issues: Vec<Issue>,
}

/// What goes into a pod's row of `POD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodPolicy {
    /// The set; 0 if no policy selects the pod.
    pub set: SetId,
    /// [`abi::pod::ISOLATED_INGRESS`], [`abi::pod::ISOLATED_EGRESS`] and [`abi::pod::PEERS_NAMED`].
    pub isolated: u8,
}

/// A rule of a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The NetworkPolicy.
    pub policy: Key,
    /// [`abi::policy::INGRESS`] or [`abi::policy::EGRESS`].
    pub direction: u8,
    /// Index in the policy's `ingress` or `egress`.
    pub index: usize,
    /// The rule in one line.
    pub text: String,
}

/// The policies which isolate the pods of a set: what a default deny is attributed to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Set {
    /// NetworkPolicies that isolate for ingress.
    pub ingress: Vec<Key>,
    /// NetworkPolicies that isolate for egress.
    pub egress: Vec<Key>,
}
