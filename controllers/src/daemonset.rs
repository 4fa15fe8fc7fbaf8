//! DaemonSets: one pod on every node that it fits. Upstream: pkg/controller/daemon.
//!
//! `nodes` says where a pod should be, `history` keeps the template as ControllerRevisions, `update` replaces pods of an
//! older one. The scheduler binds the pods: each names its node by a required affinity.

mod history;
mod nodes;
mod status;
mod update;

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    action::{Action, normal, warning},
    controller::{Change, Concurrency, Controller, Key},
    ownership::Owner,
    resource,
    snapshot::Snapshot,
    view::{DaemonSet, Node, Object, Pod},
};

const COMPONENT: &str = "daemonset-controller";
/// The label with the hash of the template that made a pod.
const HASH_LABEL: &str = "controller-revision-hash";
/// Pods created or deleted in one round at most.
const BURST: usize = 250;

pub(crate) const CONTROLLER: Controller = Controller {
    name: COMPONENT,
    watches: &[resource::DAEMON_SETS, resource::PODS, resource::NODES, resource::CONTROLLER_REVISIONS],
    keys,
    reconcile,
    priority: None,
    concurrency: Concurrency::PerKey,
};

fn keys(snapshot: &Snapshot, change: &Change) -> Vec<Key> {
    match (&change.old, &change.new) {
        (_, Some(Object::DaemonSet(_))) | (Some(Object::DaemonSet(_)), _) => vec![change.key.clone()],
        (Some(Object::Node(old)), Some(Object::Node(new))) if same_for_daemons(old, new) => Vec::new(),
        (_, Some(Object::Node(_))) | (Some(Object::Node(_)), _) => snapshot.daemon_sets.keys().cloned().collect(),
        (old, new) => {
            let metas = [old, new].into_iter().flatten().map(Object::meta);
            let mut keys: Vec<Key> = metas
                .filter_map(|meta| meta.controlled_by_kind("DaemonSet"))
                .map(|owner| Key::new(Arc::clone(&change.key.namespace), owner.name.as_str()))
                .collect();
            keys.dedup();
            if let Some(Object::Pod(pod)) = new
                && pod.meta.controller().is_none()
            {
                let sets = snapshot.daemon_sets.in_namespace(&change.key.namespace);
                keys.extend(sets.filter(|s| s.spec.selector.matches(&pod.meta.labels)).map(|s| s.meta.key()));
            }
            keys
        }
    }
}

fn same_for_daemons(old: &Node, new: &Node) -> bool {
    old.meta.labels == new.meta.labels && old.spec.taints == new.spec.taints
}

fn reconcile(snapshot: &Snapshot, key: &Key, now: Timestamp) -> Vec<Action> {
    let Some(set) = snapshot.daemon_sets.get(key) else { return Vec::new() };
    if set.spec.selector.is_empty() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.".to_owned();
        let involved = set.meta.involved("apps/v1", "DaemonSet");
        return vec![Action::Event(warning(COMPONENT, involved, "SelectingAll", message))];
    }
    let owner = Owner { meta: &set.meta, api_version: "apps/v1", kind: "DaemonSet", selector: &set.spec.selector };
    let owned = snapshot.owned(&set.meta.uid, resource::PODS, &snapshot.pods);
    let orphans = snapshot.orphans(&key.namespace, resource::PODS, &snapshot.pods);
    let (pods, writes) = owner.claim(resource::PODS, owned, orphans, |pod: &Pod| &pod.meta);
    if !writes.is_empty() {
        return writes;
    }
    if set.meta.deleting() {
        return Vec::new();
    }
    let template = set.spec.template.value();
    let revisions = history::Revisions::of(snapshot, set, &template);
    if !revisions.writes.is_empty() {
        // Pods carry the revision's hash, so it must be there first.
        return revisions.writes;
    }
    let mut round = Round::new(snapshot, set, &owner, template, revisions.hash.clone(), &pods, now);
    round.place();
    if round.quiet() {
        update::replace(&mut round);
    }
    let mut actions = std::mem::take(&mut round.actions);
    actions.extend(status::update(&round));
    if actions.is_empty() {
        actions.extend(history::clean_up(&revisions, set, &pods));
    }
    actions.extend(status::look_again(&round));
    actions
}

/// One reconcile: what there is, node by node, and the actions so far.
struct Round<'a> {
    set: &'a DaemonSet,
    owner: &'a Owner<'a>,
    template: Value,
    hash: String,
    revision: u64,
    now: Timestamp,
    /// Every node, and whether a pod should run there.
    nodes: Vec<(&'a Node, nodes::Place)>,
    pods: BTreeMap<&'a str, Vec<&'a Arc<Pod>>>,
    actions: Vec<Action>,
    made: usize,
}

impl<'a> Round<'a> {
    fn new(
        snapshot: &'a Snapshot,
        set: &'a DaemonSet,
        owner: &'a Owner<'a>,
        template: Value,
        hash: String,
        pods: &[&'a Arc<Pod>],
        now: Timestamp,
    ) -> Self {
        let wanted = nodes::Wanted::new(&template);
        let nodes = snapshot.nodes.values().map(|node| (&**node, wanted.place(node))).collect();
        let mut by_node: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            by_node.entry(nodes::node_of(pod)).or_default().push(pod);
        }
        let revision = snapshot.revision();
        Self { set, owner, template, hash, revision, now, nodes, pods: by_node, actions: Vec::new(), made: 0 }
    }

    fn on(&self, node: &str) -> &[&'a Arc<Pod>] {
        self.pods.get(node).map_or(&[], Vec::as_slice)
    }

    /// Nothing created or deleted in this round: pods may be replaced.
    fn quiet(&self) -> bool {
        !self.actions.iter().any(|action| matches!(action, Action::Create { .. } | Action::Delete { .. }))
    }

    /// A pod wherever one should be, none where none should.
    fn place(&mut self) {
        for (node, place) in self.nodes.clone() {
            let pods = self.on(&node.meta.name).to_vec();
            if !place.keeps {
                pods.iter().filter(|pod| !pod.meta.deleting()).for_each(|pod| self.delete(pod));
                continue;
            }
            let (ended, alive): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.terminated());
            for pod in ended.iter().filter(|pod| !pod.meta.deleting()) {
                self.replace_ended(pod, node);
            }
            if alive.is_empty() && ended.is_empty() && place.runs {
                self.create(&node.meta.name);
            }
            self.keep_one(alive);
        }
    }

    fn replace_ended(&mut self, pod: &Pod, node: &Node) {
        let (reason, state, is_warning) = match pod.status.phase.as_str() {
            "Failed" => ("FailedDaemonPod", "failed", true),
            _ => ("SucceededDaemonPod", "succeeded", false),
        };
        let message = format!(
            "Found {state} daemon pod {}/{} on node {}, will try to kill it",
            pod.meta.namespace, pod.meta.name, node.meta.name
        );
        let involved = self.set.meta.involved("apps/v1", "DaemonSet");
        let event = if is_warning {
            warning(COMPONENT, involved, reason, message)
        } else {
            normal(COMPONENT, involved, reason, message)
        };
        self.actions.push(Action::Event(event));
        self.delete(pod);
    }

    /// The oldest of each revision stays; more than one of one revision are too many.
    fn keep_one(&mut self, mut alive: Vec<&'a Arc<Pod>>) {
        alive.retain(|pod| !pod.meta.deleting());
        alive.sort_by_key(|pod| (pod.meta.created(), pod.meta.name.clone()));
        let surge = update::max_surge(self.set, self.nodes.len()) > 0;
        let (new, old): (Vec<_>, Vec<_>) = alive.into_iter().partition(|pod| update::is_new(pod, &self.hash));
        let spare: Vec<_> = if surge {
            new.iter().skip(1).chain(old.iter().skip(1)).copied().collect()
        } else {
            old.iter().chain(&new).skip(1).copied().collect()
        };
        spare.into_iter().for_each(|pod| self.delete(pod));
    }

    fn create(&mut self, node: &str) {
        if self.made >= BURST {
            return;
        }
        let (name, object) = nodes::pod(self, node);
        self.made += 1;
        let namespace = self.set.meta.namespace.clone();
        self.actions.push(Action::Create { resource: resource::PODS.into(), namespace, object });
        let involved = || self.set.meta.involved("apps/v1", "DaemonSet");
        let event = normal(COMPONENT, involved(), "SuccessfulCreate", format!("Created pod: {name}"));
        let failed = warning(COMPONENT, involved(), "FailedCreate", "Error creating: ".to_owned());
        self.actions.extend([Action::IfFailed(failed), Action::Event(event)]);
    }

    fn delete(&mut self, pod: &Pod) {
        let involved = self.set.meta.involved("apps/v1", "DaemonSet");
        let event = normal(COMPONENT, involved, "SuccessfulDelete", format!("Deleted pod: {}", pod.meta.name));
        self.actions.extend([Action::delete(resource::PODS, &pod.meta), Action::Event(event)]);
    }
}

#[cfg(test)]
mod tests;
