//! NetworkPolicies, the whole spec: what `policy::compile` reads.
//!
//! Absent and empty lists mean the same in rules (`from`, `to`, `ports`: everything), so both are an empty list here.
//! `policyTypes` is kept as it came, since its default depends on the rest.
use serde::Deserialize;

use crate::{
    IntOrString, Key, LabelSelector,
    key::object,
    wire::{self, or_default},
};

/// `networking.k8s.io/v1 NetworkPolicy`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(from = "Wire")]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`.
    pub version: Box<str>,
    /// The pods of the namespace that the policy isolates.
    pub pod_selector: LabelSelector,
    /// Who may send to them.
    pub ingress: Vec<PolicyRule>,
    /// To whom they may send.
    pub egress: Vec<PolicyRule>,
    /// `Ingress`, `Egress`; empty: by default, see [`NetworkPolicy::isolates_egress`].
    pub policy_types: Vec<Box<str>>,
}
object!(NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy");

impl NetworkPolicy {
    /// Its ingress rules are in force. By default always.
    pub fn isolates_ingress(&self) -> bool {
        self.goes_by_default() || self.names("Ingress")
    }

    /// Its egress rules are in force. By default if there are any.
    pub fn isolates_egress(&self) -> bool {
        (self.goes_by_default() && !self.egress.is_empty()) || self.names("Egress")
    }

    /// No types are named; or one that does not exist, which may have been meant for either.
    fn goes_by_default(&self) -> bool {
        self.policy_types.is_empty() || self.policy_types.iter().any(|text| !matches!(&**text, "Ingress" | "Egress"))
    }

    fn names(&self, wanted: &str) -> bool {
        self.policy_types.iter().any(|text| &**text == wanted)
    }
}

/// An ingress rule's `from` or an egress rule's `to`, and `ports`: both must match.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PolicyRule {
    /// `from` or `to`: one must match; empty matches everybody.
    #[serde(alias = "from", alias = "to", deserialize_with = "or_default")]
    pub peers: Vec<PolicyPeer>,
    /// One must match; empty matches every port of every protocol.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<PolicyPort>,
}

/// Selectors (both must match), or an address block.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPeer {
    /// Pods of the selected namespaces, or of the policy's own.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses; excludes the other two.
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses with holes; texts as they came.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// The range.
    pub cidr: Box<str>,
    /// The holes.
    #[serde(deserialize_with = "or_default")]
    pub except: Vec<Box<str>>,
}

/// Ports of one protocol.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPort {
    /// `TCP` if absent.
    pub protocol: Option<Box<str>>,
    /// A number, the name of a container's port, or every port.
    pub port: Option<IntOrString>,
    /// The last port of a range that starts at `port`.
    pub end_port: Option<i32>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: wire::Metadata,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "or_default")]
    pod_selector: LabelSelector,
    #[serde(deserialize_with = "or_default")]
    ingress: Vec<PolicyRule>,
    #[serde(deserialize_with = "or_default")]
    egress: Vec<PolicyRule>,
    #[serde(deserialize_with = "or_default")]
    policy_types: Vec<Box<str>>,
}

impl From<Wire> for NetworkPolicy {
    fn from(mut wire: Wire) -> NetworkPolicy {
        NetworkPolicy {
            key: wire.metadata.take_key(),
            uid: wire.metadata.uid,
            version: wire.metadata.resource_version,
            pod_selector: wire.spec.pod_selector,
            ingress: wire.spec.ingress,
            egress: wire.spec.egress,
            policy_types: wire.spec.policy_types,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &str) -> NetworkPolicy {
        serde_json::from_str(&format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{spec}}}"#)).unwrap()
    }

    #[track_caller]
    fn check(spec: &str, ingress: bool, egress: bool) {
        let policy = policy(spec);
        assert_eq!((policy.isolates_ingress(), policy.isolates_egress()), (ingress, egress));
    }

    #[test]
    fn types_by_default() {
        check("{}", true, false);
        check(r#"{"egress":[]}"#, true, false);
        check(r#"{"egress":[{}]}"#, true, true);
        check(r#"{"policyTypes":["Egress"]}"#, false, true);
        check(r#"{"policyTypes":["Ingress"],"egress":[{}]}"#, true, false);
        check(r#"{"policyTypes":["Ingress","Egress"]}"#, true, true);
        check(r#"{"policyTypes":["egress"],"egress":[{}]}"#, true, true);
        check(r#"{"policyTypes":["Egress","Sideways"]}"#, true, true);
    }

    #[test]
    fn rules() {
        let policy = policy(
            r#"{"podSelector":{"matchLabels":{"a":"b"}},"ingress":[{"from":[{"podSelector":{}},
            {"ipBlock":{"cidr":"10.0.0.0/8","except":null}}],"ports":[{"port":80},{"port":"dns","protocol":"UDP"},
            {"port":1000,"endPort":2000}]},{"from":null}]}"#,
        );
        assert_eq!(policy.ingress.len(), 2);
        let rule = &policy.ingress[0];
        assert_eq!(rule.peers[0].pod_selector, Some(LabelSelector::default()));
        assert_eq!(rule.peers[0].namespace_selector, None);
        assert_eq!(&*rule.peers[1].ip_block.as_ref().unwrap().cidr, "10.0.0.0/8");
        assert_eq!(rule.ports[1].port, Some(IntOrString::Name("dns".into())));
        assert_eq!(rule.ports[2].end_port, Some(2000));
        assert!(policy.ingress[1].peers.is_empty());
    }
}
