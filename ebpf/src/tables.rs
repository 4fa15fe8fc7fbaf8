//! `datapath::Tables` for the maps: one method, one map.
use crate::maps::{
    BACKENDS, BUCKETS, CIDRS, CONFIG, FLOWS, FRAGS, HALFOPEN, NODES, PEERS, POD, POD_FLOWS, PODS, POLICY, REPLIES,
    ROUTES, SERVICES, SETTINGS, SLOTS,
};
use crate::other_flows::{former, same};
use abi::{
    Addr,
    config::{FEATURE_BOTH_FLOWS, FEATURE_FORMER_FLOWS, Settings},
    flow::{Count, FlowKey, FlowValue},
    fragment::{Fragment, FragmentKey},
    peer::Class,
    pod::{NONE, Pod, PodId},
    policy::{PolicyKey, PolicyValue},
    route::{Node, NodeId, Route},
    service::{Backend, BackendId, Service, ServiceKey},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    maps::lpm_trie::Key,
};
use core::{
    intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd},
    ops::Deref,
};
use datapath::tables::{Tables, Touch};

/// All tables.
pub struct Maps;

impl Maps {
    /// There is a second set of flow tables, of the same layout (a constant for the verifier).
    #[inline(always)]
    fn both(&self) -> bool {
        self.setting(|s| &s.features) & FEATURE_BOTH_FLOWS != 0
    }

    /// There is a second set of flow tables, of the former layout (a constant for the verifier).
    #[inline(always)]
    fn former(&self) -> bool {
        self.setting(|s| &s.features) & FEATURE_FORMER_FLOWS != 0
    }

    /// Takes a flow that only the other set of flow tables knows, both halves of it, from there. Whatever is in ours
    /// already is newer and stays.
    #[inline(always)]
    pub fn take_over(&self, key: &FlowKey) {
        if !(self.both() || self.former()) || FLOWS.get_ptr(key).is_some() || HALFOPEN.get_ptr(key).is_some() {
            return;
        }
        if self.both() {
            same().take_flow(key);
        }
        if self.former() {
            former().take_flow(key);
        }
    }
}

/// A row of a flow table in place. Rows stay readable until the program ends (RCU); another CPU may change the fields
/// that `touch` writes, and may reuse a deleted row for another flow, which costs one wrong packet at worst.
pub struct Entry(*mut FlowValue);

impl Deref for Entry {
    type Target = FlowValue;

    #[inline(always)]
    fn deref(&self) -> &FlowValue {
        // SAFETY: the pointer came from a look-up that succeeded, in this run of the program.
        unsafe { &*self.0 }
    }
}

impl Tables for Maps {
    type Entry = Entry;

    #[inline(always)]
    fn setting<T: Copy>(&self, pick: impl FnOnce(&Settings) -> &T) -> T {
        // SAFETY: a valid reference; volatile, since the loader and not this code gives the value.
        unsafe { core::ptr::read_volatile(pick(&SETTINGS)) }
    }

    #[inline(always)]
    fn epoch(&self) -> u64 {
        let Some(config) = CONFIG.get_ptr(0) else {
            return 0;
        };
        // SAFETY: a row of an array; one aligned load, so old or new and never half of each.
        unsafe { core::ptr::read_volatile(&raw const (*config).epoch) }
    }

    #[inline(always)]
    fn pod_of(&self, addr: &Addr) -> PodId {
        // SAFETY: the value is copied at once.
        unsafe { PODS.get(addr) }.copied().unwrap_or(NONE)
    }

    #[inline(always)]
    fn pod(&self, id: PodId) -> Option<&Pod> {
        POD.get(id)
    }

    #[inline(always)]
    fn route(&self, addr: &Addr) -> Option<&Route> {
        ROUTES.get(Key::new(128, *addr))
    }

    #[inline(always)]
    fn node(&self, id: NodeId) -> Option<&Node> {
        NODES.get(id)
    }

    #[inline(always)]
    fn peer(&self, addr: &Addr) -> Option<Class> {
        // SAFETY: the value is copied at once.
        unsafe { PEERS.get(addr) }.copied()
    }

    #[inline(always)]
    fn cidr(&self, addr: &Addr) -> Option<Class> {
        CIDRS.get(Key::new(128, *addr)).copied()
    }

    #[inline(always)]
    fn rule(&self, key: &PolicyKey) -> Option<&PolicyValue> {
        let last = u32::from_ne_bytes([key.direction, key.proto, key.port.to_ne_bytes()[0], key.port.to_ne_bytes()[1]]);
        POLICY.get(Key::new(key.prefix_len, [key.set, key.class, last]))
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&Service> {
        // SAFETY: the rows are plain integers, and a reused row costs one wrong backend at worst.
        unsafe { SERVICES.get(key) }
    }

    #[inline(always)]
    fn slot(&self, index: u32) -> BackendId {
        SLOTS.get(index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<&Backend> {
        BACKENDS.get(id)
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: the value is copied at once.
        unsafe { FRAGS.get(key) }.copied()
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey, value: &Fragment) {
        let _ = FRAGS.insert(key, value, u64::from(BPF_ANY)); // Then the later ones are dropped, and counted.
    }

    #[inline(always)]
    fn bucket(&self, id: PodId) -> u64 {
        let Some(row) = BUCKETS.get_ptr(id) else {
            return 0;
        };
        // SAFETY: a row of an array; one aligned load, so old or new and never half of each.
        unsafe { core::ptr::read_volatile(row) }
    }

    #[inline(always)]
    fn swap_bucket(&self, id: PodId, old: u64, new: u64) -> bool {
        let Some(row) = BUCKETS.get_ptr_mut(id) else {
            return true;
        };
        // SAFETY: a row of an array, aligned.
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(row, old, new).1 }
    }

    #[inline(always)]
    fn pod_flows(&self, id: PodId) -> i64 {
        let Some(row) = POD_FLOWS.get_ptr(id) else {
            return 0;
        };
        // SAFETY: a row of an array; one aligned load.
        unsafe { core::ptr::read_volatile(row) as i64 }
    }

    #[inline(always)]
    fn add_pod_flows(&self, id: PodId, more: i64) {
        if let Some(row) = POD_FLOWS.get_ptr_mut(id) {
            // SAFETY: a row of an array, aligned.
            unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(row, more as u64) };
        }
    }

    #[inline(always)]
    fn replies(&self, id: PodId) -> u64 {
        let Some(row) = REPLIES.get_ptr(id) else {
            return 0;
        };
        // SAFETY: a row of an array; one aligned load, so old or new and never half of each.
        unsafe { core::ptr::read_volatile(row) }
    }

    #[inline(always)]
    fn swap_replies(&self, id: PodId, old: u64, new: u64) -> bool {
        let Some(row) = REPLIES.get_ptr_mut(id) else {
            return true;
        };
        // SAFETY: a row of an array, aligned.
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(row, old, new).1 }
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<Entry> {
        FLOWS.get_ptr_mut(key).map(Entry)
    }

    #[inline(always)]
    fn half_open(&self, key: &FlowKey) -> Option<Entry> {
        HALFOPEN.get_ptr_mut(key).map(Entry)
    }

    #[inline(always)]
    fn same(&self, a: &Entry, b: &Entry) -> bool {
        a.0 == b.0
    }

    #[inline(always)]
    fn touch(&self, entry: &Entry, touch: Touch) {
        let row = entry.0;
        // SAFETY: as for `deref`, and a row has a count for either direction; counters by atomic adds, the rest by volatile
        // stores of one word each: two CPUs may each lose a bit of `seen`, which the next packet sets again.
        unsafe {
            let count = row.byte_add(FlowValue::count_at(touch.direction)).cast::<Count>();
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*count).packets, 1);
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*count).bytes, touch.bytes);
            core::ptr::write_volatile(&raw mut (*count).last, touch.now);
            let seen = core::ptr::read_volatile(&raw const (*row).seen);
            if seen | touch.seen != seen {
                core::ptr::write_volatile(&raw mut (*row).seen, seen | touch.seen);
            }
        }
    }

    #[inline(always)]
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> bool {
        if self.both() {
            same().put_flow(key, value);
        }
        if self.former() {
            former().put_flow(key, value);
        }
        FLOWS.insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn put_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool {
        if self.both() {
            same().put_half_open(key, value);
        }
        if self.former() {
            former().put_half_open(key, value);
        }
        HALFOPEN.insert(key, value, u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn reserve_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool {
        if (self.both() && !same().reserve(key, value)) || (self.former() && !former().reserve(key, value)) {
            return false;
        }
        let reserved = HALFOPEN.insert(key, value, u64::from(BPF_NOEXIST)).is_ok();
        if self.both() && !reserved {
            same().remove_half_open(key);
        }
        if self.former() && !reserved {
            former().remove_half_open(key);
        }
        reserved
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        let _ = FLOWS.remove(key);
        if self.both() {
            same().remove_flow(key);
        }
        if self.former() {
            former().remove_flow(key);
        }
    }

    #[inline(always)]
    fn remove_half_open(&self, key: &FlowKey) {
        let _ = HALFOPEN.remove(key);
        if self.both() {
            same().remove_half_open(key);
        }
        if self.former() {
            former().remove_half_open(key);
        }
    }
}
