//! The tables as the stages see them: one method per map, so that each look-up names its map at compile time (the
//! kernel inlines a look-up only then).
use abi::{
    Addr,
    config::Settings,
    flow::{FlowKey, FlowValue},
    fragment::{Fragment, FragmentKey},
    peer::Class,
    pod::{Pod, PodId},
    policy::{PolicyKey, PolicyValue},
    route::{Node, NodeId, Route},
    service::{Backend, BackendId, Service, ServiceKey},
};
use core::ops::Deref;

/// What is written into a flow's row when a packet of it passes.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// The direction that is counted: 0 or 1.
    pub direction: usize,
    /// Bits to add to `seen`.
    pub seen: u16,
    /// Jiffies.
    pub now: u64,
    /// Bytes of the packet.
    pub bytes: u64,
}

/// Read access to every table, and the few writes of the datapath.
pub trait Tables {
    /// A row of a flow table, in place.
    type Entry: Deref<Target = FlowValue>;

    /// One of the node's constants: `tables.setting(|s| &s.host_ifindex)`. The closure only points; a BPF program then
    /// loads that one field, whose value the verifier knows.
    fn setting<T: Copy>(&self, pick: impl FnOnce(&Settings) -> &T) -> T;
    /// The policy epoch.
    fn epoch(&self) -> u64;
    /// The pod with this address, or [`abi::pod::NONE`].
    fn pod_of(&self, addr: &Addr) -> PodId;
    /// A pod's row.
    fn pod(&self, id: PodId) -> Option<&Pod>;
    /// Longest match in `ROUTES`.
    fn route(&self, addr: &Addr) -> Option<&Route>;
    /// A node's row.
    fn node(&self, id: NodeId) -> Option<&Node>;
    /// Class of an address in `PEERS`.
    fn peer(&self, addr: &Addr) -> Option<Class>;
    /// Longest match in `CIDRS`.
    fn cidr(&self, addr: &Addr) -> Option<Class>;
    /// Longest match in `POLICY`.
    fn rule(&self, key: &PolicyKey) -> Option<&PolicyValue>;
    /// A service.
    fn service(&self, key: &ServiceKey) -> Option<&Service>;
    /// The backend in a slot, 0 for none.
    fn slot(&self, index: u32) -> BackendId;
    /// A backend's row.
    fn backend(&self, id: BackendId) -> Option<&Backend>;

    /// A row of `FRAGS`.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;
    /// Write a row of `FRAGS`.
    fn put_fragment(&self, key: &FragmentKey, value: &Fragment);
    /// When a pod's bucket is full again.
    fn bucket(&self, id: PodId) -> u64;
    /// Sets that, unless it is not `old` any more (then false).
    fn swap_bucket(&self, id: PodId, old: u64, new: u64) -> bool;
    /// When a pod may be told in full measure again; row 0 is for all who are no pods of this node.
    fn replies(&self, id: PodId) -> u64;
    /// Sets that, unless it is not `old` any more (then false).
    fn swap_replies(&self, id: PodId, old: u64, new: u64) -> bool;

    /// Rows of `FLOWS` that count against a pod's quota; may be below zero for a while.
    fn pod_flows(&self, id: PodId) -> i64;
    /// Counts so many more.
    fn add_pod_flows(&self, id: PodId, more: i64);

    /// A row of `FLOWS`.
    fn flow(&self, key: &FlowKey) -> Option<Self::Entry>;
    /// A row of `HALFOPEN`.
    fn half_open(&self, key: &FlowKey) -> Option<Self::Entry>;
    /// Whether two look-ups of one key in one table met the same row, with none in between that was another's.
    fn same(&self, a: &Self::Entry, b: &Self::Entry) -> bool;
    /// The only write into a row in place.
    fn touch(&self, entry: &Self::Entry, touch: Touch);
    /// Write a row of `FLOWS`; false if the table is full.
    fn put_flow(&self, key: &FlowKey, value: &FlowValue) -> bool;
    /// Write a row of `HALFOPEN`; false if that failed.
    fn put_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool;
    /// Write a row of `HALFOPEN` unless the key is there already (then false): the reservation of a reply key.
    fn reserve_half_open(&self, key: &FlowKey, value: &FlowValue) -> bool;
    /// Delete a row of `FLOWS`, if it is there.
    fn remove_flow(&self, key: &FlowKey);
    /// Delete a row of `HALFOPEN`, if it is there.
    fn remove_half_open(&self, key: &FlowKey);
}
