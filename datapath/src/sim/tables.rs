//! `Tables` for [`Node`].
use super::Node;
use crate::tables::{Tables, Touch};
use abi::{
    Addr,
    config::Settings,
    flow::{FlowKey, FlowValue},
    fragment::{Fragment, FragmentKey},
    peer::Class,
    pod::{NONE, Pod, PodId},
    policy::{PolicyKey, PolicyValue},
    route::{Node as NodeRow, NodeId, Route},
    service::{Backend, BackendId, Service, ServiceKey},
};
use std::{cell::RefCell, collections::BTreeMap, ops::Deref};

/// A copy of a row, and where it lies.
pub struct Entry {
    key: FlowKey,
    established: bool,
    value: FlowValue,
}

impl Deref for Entry {
    type Target = FlowValue;

    fn deref(&self) -> &FlowValue {
        &self.value
    }
}

/// The bytes of a policy key that its prefix counts.
pub(super) fn policy_bytes(key: &PolicyKey) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&key.set.to_ne_bytes());
    bytes[4..8].copy_from_slice(&key.class.to_ne_bytes());
    bytes[8] = key.direction;
    bytes[9] = key.proto;
    bytes[10..].copy_from_slice(&key.port.to_ne_bytes());
    bytes
}

fn look(table: &RefCell<BTreeMap<FlowKey, FlowValue>>, key: &FlowKey, established: bool) -> Option<Entry> {
    table.borrow().get(key).map(|value| Entry { key: *key, established, value: *value })
}

impl Tables for Node {
    type Entry = Entry;

    fn setting<T: Copy>(&self, pick: impl FnOnce(&Settings) -> &T) -> T {
        *pick(&self.settings)
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn pod_of(&self, addr: &Addr) -> PodId {
        self.pods.get(addr).copied().unwrap_or(NONE)
    }

    fn pod(&self, id: PodId) -> Option<&Pod> {
        self.pod.get(&id)
    }

    fn route(&self, addr: &Addr) -> Option<&Route> {
        self.routes.get(&addr.bytes())
    }

    fn node(&self, id: NodeId) -> Option<&NodeRow> {
        self.nodes.get(&id)
    }

    fn peer(&self, addr: &Addr) -> Option<Class> {
        self.peers.get(addr).copied()
    }

    fn cidr(&self, addr: &Addr) -> Option<Class> {
        self.cidrs.get(&addr.bytes()).copied()
    }

    fn rule(&self, key: &PolicyKey) -> Option<&PolicyValue> {
        self.policy.get(&policy_bytes(key))
    }

    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)
    }

    fn slot(&self, index: u32) -> BackendId {
        self.slots.get(&index).copied().unwrap_or(0)
    }

    fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(&id)
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn put_fragment(&self, key: &FragmentKey, value: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *value);
    }

    fn bucket(&self, id: PodId) -> u64 {
        self.buckets.borrow().get(&id).copied().unwrap_or(0)
    }

    fn swap_bucket(&self, id: PodId, _old: u64, new: u64) -> bool {
        self.buckets.borrow_mut().insert(id, new);
        true
    }

    fn pod_flows(&self, id: PodId) -> i64 {
        self.pod_flows.borrow().get(&id).copied().unwrap_or(0)
    }

    fn add_pod_flows(&self, id: PodId, more: i64) {
        *self.pod_flows.borrow_mut().entry(id).or_default() += more;
    }

    fn replies(&self, id: PodId) -> u64 {
        self.replies.borrow().get(&id).copied().unwrap_or(0)
    }

    fn swap_replies(&self, id: PodId, _old: u64, new: u64) -> bool {
        self.replies.borrow_mut().insert(id, new);
        true
    }

    fn flow(&self, key: &FlowKey) -> Option<Entry> {
        look(&self.flows, key, true)
    }

    fn half_open(&self, key: &FlowKey) -> Option<Entry> {
        look(&self.half_open, key, false)
    }

    fn same(&self, a: &Entry, b: &Entry) -> bool {
        a.key == b.key && a.established == b.established
    }

    fn touch(&self, entry: &Entry, touch: Touch) {
        let table = if entry.established { &self.flows } else { &self.half_open };
        if let Some(row) = table.borrow_mut().get_mut(&entry.key) {
            row.add(touch.direction, touch.now, touch.bytes);
            row.seen |= touch.seen;
        }
    }

    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> bool {
        let mut flows = self.flows.borrow_mut();
        if self.flow_room.is_some_and(|room| flows.len() >= room && !flows.contains_key(key)) {
            return false;
        }
        flows.insert(*key, *value);
        true
    }

    fn put_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool {
        self.half_open.borrow_mut().insert(*key, *value);
        true
    }

    fn reserve_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool {
        let mut half_open = self.half_open.borrow_mut();
        let free = !half_open.contains_key(key);
        if free {
            half_open.insert(*key, *value);
        }
        free
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn remove_half_open(&self, key: &FlowKey) {
        self.half_open.borrow_mut().remove(key);
    }
}
