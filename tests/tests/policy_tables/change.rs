//! Random changes of a cluster: what people and controllers do to pods, policies and namespaces, alone and at once.
use objects::{Labels, NetworkPolicy};
use proptest::{collection::vec, prelude::*};

use crate::cluster::{Draft, Seed, draft, labels, policy, ports};

/// One thing that changes. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Relabel(usize, Labels),
    Rename(usize, Box<[objects::ContainerPort]>),
    Delete(usize),
    Create(Draft),
    /// Another pod of the same name and address.
    Replace(usize, Draft),
    /// It is being deleted, or its address gets known.
    Progress(usize),
    Policy(usize, Box<NetworkPolicy>),
    NoPolicy(usize),
    Namespace(usize, Labels),
}

/// What happens between two rounds of the agent.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let any = 0..16_usize;
    let one = prop_oneof![
        4 => (any.clone(), labels()).prop_map(|(at, labels)| Change::Relabel(at, labels)),
        1 => (any.clone(), ports()).prop_map(|(at, ports)| Change::Rename(at, ports)),
        2 => any.clone().prop_map(Change::Delete),
        2 => draft().prop_map(Change::Create),
        2 => (any.clone(), draft()).prop_map(|(at, draft)| Change::Replace(at, draft)),
        1 => any.clone().prop_map(Change::Progress),
        3 => (0..5_usize, policy()).prop_map(|(at, policy)| Change::Policy(at, Box::new(policy))),
        1 => (0..5_usize).prop_map(Change::NoPolicy),
        2 => (0..2_usize, labels()).prop_map(|(at, labels)| Change::Namespace(at, labels)),
    ];
    vec(one, 1..4)
}

/// Carries out changes.
pub(crate) fn happen(seed: &mut Seed, changes: &[Change]) {
    for change in changes {
        let at = |number: usize| seed.pods.keys().nth(number % seed.pods.len().max(1)).copied().unwrap_or(0);
        match change {
            Change::Relabel(number, labels) => pod(seed, at(*number), |pod| pod.labels = labels.clone()),
            Change::Rename(number, ports) => pod(seed, at(*number), |pod| pod.ports = ports.clone()),
            Change::Delete(number) => drop(seed.pods.remove(&at(*number))),
            Change::Create(draft) => {
                let free = (0..10).find(|number| !seed.pods.contains_key(number));
                seed.pods.extend(free.map(|number| (number, draft.clone())));
            }
            Change::Replace(number, draft) => pod(seed, at(*number), |pod| {
                let life = (pod.life + 1) % 4;
                *pod = Draft { life, ..draft.clone() };
            }),
            Change::Progress(number) => {
                pod(seed, at(*number), |pod| (pod.deleting, pod.unheard) = (pod.unheard, false));
            }
            Change::Policy(number, policy) => drop(seed.policies.insert(*number, (**policy).clone())),
            Change::NoPolicy(number) => drop(seed.policies.remove(number)),
            Change::Namespace(number, labels) => seed.namespaces[*number] = labels.clone(),
        }
    }
}

fn pod(seed: &mut Seed, number: usize, change: impl FnOnce(&mut Draft)) {
    seed.pods.get_mut(&number).map(change);
}
