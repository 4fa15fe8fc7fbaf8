//! Objects in, tables out.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use abi::{
    peer::{ANY, Class},
    pod::{ISOLATED_EGRESS, ISOLATED_INGRESS, PEERS_NAMED},
    policy::{ALLOW, BITS_ANY_PORT, BITS_ANY_PROTO, EGRESS, INGRESS, PolicyKey, PolicyValue, RuleId, SetId},
};
use objects::{Key, Namespace, NetworkPolicy, Pod, Store, content};

use crate::{
    class::{Classes, Traits, classify},
    port::{Port, PortMatch, prefixes, resolve},
    rule::{Parsed, ParsedPolicy, ParsedRule},
    tables::{Output, PodPolicy, Rule, Set},
};

/// What the compiler looks at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// All pods of the cluster.
    pub pods: &'a Store<Pod>,
    /// All namespaces.
    pub namespaces: &'a Store<Namespace>,
    /// All policies.
    pub policies: &'a Store<NetworkPolicy>,
    /// The pods of this node that have an address of ours.
    pub local: &'a [LocalPod],
}

/// A pod of this node, as the agent's ledger knows it: its address is known here before the API tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalPod {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`, so that a successor of the same name is not mistaken for it; empty if the runtime did not say.
    pub uid: Box<str>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl LocalPod {
    /// True if the object is this very pod.
    pub(crate) fn is(&self, pod: &Pod) -> bool {
        self.key == pod.key && (self.uid.is_empty() || self.uid == pod.uid)
    }
}

/// Precedence of NetworkPolicy rules: room before and after for the tiers of ClusterNetworkPolicy.
const PRECEDENCE: u32 = 1_000;

/// Compiles the policies of this node's pods.
pub fn compile(input: &Input) -> Output {
    let mut parsed = Parsed::default();
    let pods = local_pods(input);
    let selected = select(input, &pods, &mut parsed);
    let classes = classify(input, &parsed);
    let rule_ids = rule_ids(&parsed);
    let contents = contents(&parsed, &pods, &selected);
    let ids = content::ids(&contents.iter().map(|c| c.text.as_str()).filter(|text| !text.is_empty()).collect());
    let mut output = Output::default();
    for (pod, content) in pods.iter().zip(&contents) {
        let set = ids.get(content.text.as_str()).copied().unwrap_or_default();
        output.pods.insert(pod.key.clone(), PodPolicy { set, isolated: content.isolated });
        if set != 0 && !output.sets.contains_key(&set) {
            output.sets.insert(set, content.set.clone());
            Rows { rows: &mut output.rows, classes: &classes, set }.add(content, &rule_ids);
        }
    }
    for policy in &parsed.policies {
        describe(policy, &rule_ids, &mut output.rules);
    }
    output.issues = parsed.issues.into_iter().chain(classes.issues).collect();
    output.issues.sort_unstable();
    (output.peers, output.cidrs, output.classes) = (classes.peers, classes.cidrs, classes.texts);
    output
}

/// What the set of each pod says. Pods that the same policies select share it, unless these name ports: what a name means is
/// each pod's own affair.
fn contents<'a>(parsed: &'a Parsed, pods: &[&Arc<Pod>], selected: &[Vec<usize>]) -> Vec<Rc<SetContent<'a>>> {
    let named = |port: &PortMatch| matches!(port.port, Port::Named(_));
    let names = |policy: &ParsedPolicy| {
        let ingress = policy.rules[usize::from(INGRESS)].iter().flatten();
        ingress.flat_map(|rule| rule.ports.iter().flatten()).any(named)
    };
    let names: Vec<bool> = parsed.policies.iter().map(names).collect();
    let mut shared: BTreeMap<&[usize], Rc<SetContent>> = BTreeMap::new();
    let all = pods.iter().zip(selected).map(|(pod, policies)| {
        let own = || Rc::new(SetContent::new(parsed, pod, policies));
        if policies.iter().any(|at| names[*at]) { own() } else { shared.entry(policies).or_insert_with(own).clone() }
    });
    all.collect()
}

/// The local pods that the objects know, by key.
fn local_pods<'a>(input: &'a Input) -> Vec<&'a Arc<Pod>> {
    let known = input.local.iter().filter_map(|local| {
        let pod = input.pods.get(&local.key)?;
        (local.is(pod) && !pod.host_network).then_some((&local.key, pod))
    });
    known.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// For each local pod the policies that select it, as indices into `parsed`; policies that select none are left out.
fn select(input: &Input, pods: &[&Arc<Pod>], parsed: &mut Parsed) -> Vec<Vec<usize>> {
    let mut selected = vec![Vec::new(); pods.len()];
    for policy in input.policies.values() {
        let of_pods: Vec<usize> = (0..pods.len()).filter(|at| selects(policy, pods[*at])).collect();
        if of_pods.is_empty() {
            continue;
        }
        for at in of_pods {
            selected[at].push(parsed.policies.len());
        }
        parsed.add(policy);
    }
    selected
}

/// A selector that makes no sense isolates the whole namespace: failing closed.
fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    policy.key.namespace == pod.key.namespace
        && (policy.pod_selector.fault().is_some() || policy.pod_selector.matches(&pod.labels))
}

/// What the pods of one set have in common.
struct SetContent<'a> {
    /// Canonical; empty if no policy selects the pod.
    text: String,
    isolated: u8,
    set: Set,
    rules: Vec<ResolvedRule<'a>>,
}

struct ResolvedRule<'a> {
    policy: &'a Key,
    direction: u8,
    rule: &'a ParsedRule,
    /// Like the rule's, but ingress names are numbers.
    ports: Option<Vec<PortMatch>>,
}

impl<'a> SetContent<'a> {
    fn new(parsed: &'a Parsed, pod: &Pod, policies: &[usize]) -> SetContent<'a> {
        let mut content = SetContent { text: String::new(), isolated: 0, set: Set::default(), rules: Vec::new() };
        for policy in policies.iter().map(|at| &parsed.policies[*at]) {
            for direction in [INGRESS, EGRESS] {
                let Some(rules) = &policy.rules[usize::from(direction)] else { continue };
                let (bit, names) = match direction {
                    INGRESS => (ISOLATED_INGRESS, &mut content.set.ingress),
                    _ => (ISOLATED_EGRESS, &mut content.set.egress),
                };
                content.isolated |= bit;
                names.push(policy.key.clone());
                content.text += &format!("{direction} {}\n", policy.key);
                for rule in rules {
                    let ports = resolved_ports(rule, direction, pod);
                    content.text += &format!("{} {ports:?}\n", rule.text);
                    content.rules.push(ResolvedRule { policy: &policy.key, direction, rule, ports });
                }
            }
        }
        for (direction, bit) in [(INGRESS, ISOLATED_INGRESS), (EGRESS, ISOLATED_EGRESS)] {
            let of_any = |rule: &ResolvedRule| rule.direction == direction && rule.rule.peers.is_none();
            if content.isolated & bit != 0 && !content.rules.iter().any(of_any) {
                content.isolated |= PEERS_NAMED[usize::from(direction)];
            }
        }
        content
    }
}

fn resolved_ports(rule: &ParsedRule, direction: u8, pod: &Pod) -> Option<Vec<PortMatch>> {
    let ports = rule.ports.as_ref()?;
    let numbers = |port: &PortMatch| match &port.port {
        Port::Named(name) if direction == INGRESS => resolve(pod, port.proto, name)
            .into_iter()
            .map(|number| PortMatch { proto: port.proto, port: Port::Range(number, number) })
            .collect(),
        _ => vec![port.clone()],
    };
    Some(ports.iter().flat_map(numbers).collect())
}

/// Ids by policy, direction and index.
type RuleIds<'a> = BTreeMap<(&'a Key, u8, usize), RuleId>;

fn rule_ids(parsed: &Parsed) -> RuleIds<'_> {
    let mut texts = Vec::new();
    for policy in &parsed.policies {
        for (direction, rules) in policy.rules.iter().enumerate() {
            for rule in rules.iter().flatten() {
                texts.push(((&policy.key, direction as u8, rule.index), format!("{} {}", policy.key, rule.text)));
            }
        }
    }
    let ids = content::ids(&texts.iter().map(|(_, text)| text.as_str()).collect::<BTreeSet<_>>());
    texts.iter().map(|(at, text)| (*at, ids[text.as_str()])).collect()
}

fn describe(policy: &ParsedPolicy, ids: &RuleIds, rules: &mut BTreeMap<RuleId, Rule>) {
    for (direction, list) in policy.rules.iter().enumerate() {
        for rule in list.iter().flatten() {
            let id = ids[&(&policy.key, direction as u8, rule.index)];
            let (policy, text) = (policy.key.clone(), rule.text.clone());
            rules.insert(id, Rule { policy, direction: direction as u8, index: rule.index, text });
        }
    }
}

/// Writes the rows of one set.
struct Rows<'a> {
    rows: &'a mut BTreeMap<PolicyKey, PolicyValue>,
    classes: &'a Classes,
    set: SetId,
}

impl Rows<'_> {
    fn add(&mut self, content: &SetContent, ids: &RuleIds) {
        for ResolvedRule { policy, direction, rule, ports } in &content.rules {
            let id = ids[&(*policy, *direction, rule.index)];
            let ports = ports.as_deref();
            let Some(terms) = &rule.peers else {
                self.allow(ANY, *direction, ports, &Traits::default(), id);
                self.names_for_any(*direction, ports, id);
                continue;
            };
            for (class, traits) in &self.classes.traits {
                if terms.iter().any(|term| traits.terms.contains(term)) {
                    self.allow(*class, *direction, ports, traits, id);
                }
            }
        }
    }

    /// A rule for any peer has one row, but what a port's name means differs from class to class.
    fn names_for_any(&mut self, direction: u8, ports: Option<&[PortMatch]>, rule: RuleId) {
        let named = ports.into_iter().flatten().filter(|port| matches!(port.port, Port::Named(_)));
        let named: Vec<PortMatch> = named.cloned().collect();
        if !named.is_empty() {
            for (class, traits) in &self.classes.traits {
                self.allow(*class, direction, Some(&named), traits, rule);
            }
        }
    }

    /// Rows of one rule for one class.
    fn allow(&mut self, class: Class, direction: u8, ports: Option<&[PortMatch]>, traits: &Traits, rule: RuleId) {
        let Some(ports) = ports else {
            return self.row(class, direction, BITS_ANY_PROTO, (0, 0), rule);
        };
        for PortMatch { proto, port } in ports {
            match port {
                Port::Any => self.row(class, direction, BITS_ANY_PORT, (*proto, 0), rule),
                Port::Range(first, last) => self.range(class, direction, (*proto, *first, *last), rule),
                Port::Named(name) => {
                    for number in traits.ports.get(&(*proto, name.clone())).into_iter().flatten() {
                        self.range(class, direction, (*proto, *number, *number), rule);
                    }
                }
            }
        }
    }

    fn range(&mut self, class: Class, direction: u8, (proto, first, last): (u8, u16, u16), rule: RuleId) {
        for (port, bits) in prefixes(first, last) {
            self.row(class, direction, BITS_ANY_PORT + bits, (proto, port), rule);
        }
    }

    /// The first rule that makes a row is the one it is attributed to.
    fn row(&mut self, class: Class, direction: u8, prefix_len: u32, (proto, port): (u8, u16), rule: RuleId) {
        let key = PolicyKey { prefix_len, set: self.set, class, direction, proto, port: port.to_be() };
        let value = PolicyValue { verdict: ALLOW, pad: 0, proxy_port: 0, precedence: PRECEDENCE, rule, reserved: 0 };
        self.rows.entry(key).or_insert(value);
    }
}
