//! Every map, in the order of `abi::map`, and nothing else.
use abi::{
    Addr,
    config::{Config, Settings},
    event::Counter,
    flow::{FlowKey, FlowValue, FormerValue},
    fragment::{Fragment, FragmentKey},
    map,
    peer::Class,
    pod::{Pod, PodId},
    policy::PolicyValue,
    route::{Node, Route},
    service::{Backend, BackendId, Service, ServiceKey},
    timeout::Timeouts,
};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use datapath::State;

use crate::{
    next_hop::{self, NextHop},
    tell::Limit,
};

/// The fields of `PolicyKey` after its prefix length.
pub type PolicyBits = [u32; 3];

#[map]
pub static PODS: HashMap<Addr, PodId> = HashMap::pinned(map::PODS.max_entries, 0);
#[map]
pub static POD: Array<Pod> = Array::pinned(map::POD.max_entries, 0);
#[map]
pub static ROUTES: LpmTrie<Addr, Route> = LpmTrie::pinned(map::ROUTES.max_entries, 0);
#[map]
pub static NODES: Array<Node> = Array::pinned(map::NODES.max_entries, 0);
#[map]
pub static PEERS: HashMap<Addr, Class> = HashMap::pinned(map::PEERS.max_entries, 0);
#[map]
pub static CIDRS: LpmTrie<Addr, Class> = LpmTrie::pinned(map::CIDRS.max_entries, 0);
#[map]
pub static POLICY: LpmTrie<PolicyBits, PolicyValue> = LpmTrie::pinned(map::POLICY.max_entries, 0);
#[map]
pub static SERVICES: HashMap<ServiceKey, Service> = HashMap::pinned(map::SERVICES.max_entries, 0);
#[map]
pub static SLOTS: Array<BackendId> = Array::pinned(map::SLOTS.max_entries, 0);
#[map]
pub static BACKENDS: Array<Backend> = Array::pinned(map::BACKENDS.max_entries, 0);
#[map]
pub static FLOWS: HashMap<FlowKey, FlowValue> = HashMap::pinned(map::FLOWS.max_entries, 0);
#[map]
pub static HALFOPEN: LruHashMap<FlowKey, FlowValue> = LruHashMap::pinned(map::HALFOPEN.max_entries, 0);
#[map]
pub static OTHER_FLOWS: HashMap<FlowKey, FlowValue> = HashMap::with_max_entries(map::OTHER_FLOWS.max_entries, 0);
#[map]
pub static OTHER_HALFOPEN: LruHashMap<FlowKey, FlowValue> =
    LruHashMap::with_max_entries(map::OTHER_HALFOPEN.max_entries, 0);
#[map]
pub static FORMER_FLOWS: HashMap<FlowKey, FormerValue> = HashMap::with_max_entries(map::OTHER_FLOWS.max_entries, 0);
#[map]
pub static FORMER_HALFOPEN: LruHashMap<FlowKey, FormerValue> =
    LruHashMap::with_max_entries(map::OTHER_HALFOPEN.max_entries, 0);
#[map]
pub static ROOM: PerCpuArray<FlowValue> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static FORMER_ROOM: PerCpuArray<FormerValue> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static FRAGS: LruHashMap<FragmentKey, Fragment> = LruHashMap::pinned(map::FRAGS.max_entries, 0);
#[map]
pub static POD_FLOWS: Array<u64> = Array::pinned(map::POD_FLOWS.max_entries, 0);
#[map]
pub static CONFIG: Array<Config> = Array::pinned(map::CONFIG.max_entries, 0);
#[map]
pub static COUNTERS: PerCpuArray<Counter> = PerCpuArray::pinned(map::COUNTERS.max_entries, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(map::EVENTS.max_entries, 0);
#[map]
pub static PROGS: ProgramArray = ProgramArray::with_max_entries(map::PROGS.max_entries, 0);
#[map]
pub static SWITCHES: Array<u64> = Array::with_max_entries(map::SWITCHES.max_entries, 0);
#[map]
pub static BUCKETS: Array<u64> = Array::with_max_entries(map::BUCKETS.max_entries, 0);
#[map]
pub static REPLIES: Array<u64> = Array::with_max_entries(map::REPLIES.max_entries, 0);
#[map]
pub static LIMITS: PerCpuArray<Limit> = PerCpuArray::with_max_entries(abi::verdict::REASONS, 0);
#[map]
pub static NEXT_HOPS: PerCpuArray<NextHop> = PerCpuArray::with_max_entries(next_hop::ROWS, 0);
#[map]
pub static SCRATCH: PerCpuArray<State> = PerCpuArray::with_max_entries(1, 0);

/// The node's constants, written by the loader (`override_global`) and frozen, so the verifier knows their values.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings {
    host4: Addr::ANY,
    host6: Addr::ANY,
    hairpin4: Addr::ANY,
    hairpin6: Addr::ANY,
    node: 0,
    host_ifindex: 0,
    overlay_ifindex: 0,
    nic_ifindex: 0,
    overlay_port: 0,
    node_port_first: 0,
    node_port_last: 0,
    masquerade_first: 0,
    masquerade_last: 0,
    gateway_mac: [0; 6],
    features: 0,
    jiffies_per_second: 0,
    timeouts: Timeouts::DEFAULT,
    flows_per_pod: 0,
};
