//! Every map by name, kind and size: the one schema from which `ebpf` declares and the agent creates, pins and dumps.
use crate::{addr::Prefix, config, event, flow, fragment, peer, pod, policy, route, service, verdict};

/// Kind of a BPF map, as the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`.
    Hash,
    /// `BPF_MAP_TYPE_LRU_HASH`.
    LruHash,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie,
    /// `BPF_MAP_TYPE_RINGBUF`.
    RingBuf,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    ProgArray,
}

/// One map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSpec {
    /// At most 15 bytes, so that `bpftool` shows it whole. The layout's version is part of a compiled table's name
    /// once it changes (design section 6).
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Rows by default (bytes for a ring buffer); the agent may set another number before it loads.
    pub max_entries: u32,
    /// Pinned under bpffs: outlives the agent.
    pub pinned: bool,
}

const fn spec<K, V>(name: &'static str, kind: MapKind, max_entries: u32, pinned: bool) -> MapSpec {
    MapSpec { name, kind, key: size_of::<K>(), value: size_of::<V>(), max_entries, pinned }
}

/// Address → pod of this node.
pub const PODS: MapSpec = spec::<crate::Addr, pod::PodId>("PODS", MapKind::Hash, 4_096, true);
/// Pod → what the datapath must know.
pub const POD: MapSpec = spec::<u32, pod::Pod>("POD", MapKind::Array, 2_048, true);
/// Prefix → node.
pub const ROUTES: MapSpec = spec::<Prefix, route::Route>("ROUTES", MapKind::LpmTrie, 65_536, true);
/// Node → tunnel.
pub const NODES: MapSpec = spec::<u32, route::Node>("NODES", MapKind::Array, 8_192, true);
/// Address → class.
pub const PEERS: MapSpec = spec::<crate::Addr, peer::Class>("PEERS", MapKind::Hash, 262_144, true);
/// Prefix → class.
pub const CIDRS: MapSpec = spec::<Prefix, peer::Class>("CIDRS", MapKind::LpmTrie, 65_536, true);
/// Rules.
pub const POLICY: MapSpec = spec::<policy::PolicyKey, policy::PolicyValue>("POLICY", MapKind::LpmTrie, 262_144, true);
/// Service address → slots.
pub const SERVICES: MapSpec = spec::<service::ServiceKey, service::Service>("SERVICES", MapKind::Hash, 65_536, true);
/// Slot → backend.
pub const SLOTS: MapSpec = spec::<u32, service::BackendId>("SLOTS", MapKind::Array, 1_048_576, true);
/// Backend → where it serves.
pub const BACKENDS: MapSpec = spec::<u32, service::Backend>("BACKENDS", MapKind::Array, 262_144, true);
/// Established flows.
pub const FLOWS: MapSpec = spec::<flow::FlowKey, flow::FlowValue>("FLOWS", MapKind::Hash, 262_144, true);
/// Half-open flows.
pub const HALFOPEN: MapSpec = spec::<flow::FlowKey, flow::FlowValue>("HALFOPEN", MapKind::LruHash, 65_536, true);
/// Ports of packets in pieces.
pub const FRAGS: MapSpec = spec::<fragment::FragmentKey, fragment::Fragment>("FRAGS", MapKind::LruHash, 8_192, true);
/// Pod → rows of `FLOWS` that its flows have ([`flow::FlowValue::owner`]): the datapath counts up and down, the agent's
/// sweep counts anew. A signed number: two CPUs and a sweep may leave it below zero for a while. Row 0, which is no pod's, says
/// how many turns the keys of flows have had on this node ([`flow::SIDE_TURN`]): 0 on most, where nobody looks for any.
pub const POD_FLOWS: MapSpec = spec::<u32, u64>("POD_FLOWS", MapKind::Array, POD.max_entries, true);
/// Epoch.
pub const CONFIG: MapSpec = spec::<u32, config::Config>("CONFIG", MapKind::Array, 1, true);
/// Packets and bytes by reason and hook.
pub const COUNTERS: MapSpec =
    spec::<u32, event::Counter>("COUNTERS", MapKind::PerCpuArray, verdict::REASONS * event::HOOKS, true);
/// Events.
pub const EVENTS: MapSpec =
    MapSpec { name: "EVENTS", kind: MapKind::RingBuf, key: 0, value: 0, max_entries: 1 << 20, pinned: true };
/// The stages that the hooks tail-call. Not pinned by name: each load brings its own, so that old hooks never meet new
/// stages. The kernel empties a program array when its last user-space reference goes, so the loader must keep a pin of
/// it (under a name of its own) as long as the hooks are attached.
pub const PROGS: MapSpec =
    MapSpec { name: "PROGS", kind: MapKind::ProgArray, key: 4, value: 4, max_entries: 16, pinned: false };

/// The flow tables that are in force while a start brings others (another size or layout), or those of an earlier
/// version that is to take over: with `config::FEATURE_BOTH_FLOWS` the programs write both and read through. Else unused,
/// of one row.
pub const OTHER_FLOWS: MapSpec = MapSpec { name: "OTHER_FLOWS", max_entries: 1, pinned: false, ..FLOWS };
/// The same for `HALFOPEN`.
pub const OTHER_HALFOPEN: MapSpec = MapSpec { name: "OTHER_HALFOPEN", max_entries: 1, pinned: false, ..HALFOPEN };
/// The same with rows of the former layout, with `config::FEATURE_FORMER_FLOWS`.
pub const FORMER_FLOWS: MapSpec =
    MapSpec { name: "FORMER_FLOWS", value: size_of::<flow::FormerValue>(), ..OTHER_FLOWS };
/// The same for `HALFOPEN`.
pub const FORMER_HALFOPEN: MapSpec =
    MapSpec { name: "FORMER_HALFOPEN", value: size_of::<flow::FormerValue>(), ..OTHER_HALFOPEN };

/// `FLOWS` and `HALFOPEN` as a layout has them: this version's, else the former one.
pub const fn flow_tables(layout: u32) -> [MapSpec; 2] {
    let value = if layout == flow::LAYOUT { FLOWS.value } else { FORMER_FLOWS.value };
    [MapSpec { value, ..FLOWS }, MapSpec { value, ..HALFOPEN }]
}

/// What is switched while programs run, [`config::TELL_FLOWS`] and later bits. Private to one load, never pinned: whoever
/// wanted it asks the next agent again.
pub const SWITCHES: MapSpec = spec::<u32, u64>("SWITCHES", MapKind::Array, 1, false);

/// Layout of the compiled tables. Raise it when a row changes its meaning but not its size; a size, a kind or a number of
/// rows that changes is seen without. Another layout is another set of maps, written in full beside the one in force.
pub const TABLES_LAYOUT: u32 = 1;

/// When each pod's bucket is full again, in nanoseconds of jiffies. Private to one load, never pinned: a new load starts with
/// full buckets.
pub const BUCKETS: MapSpec = spec::<u32, u64>("BUCKETS", MapKind::Array, POD.max_entries, false);

/// When each pod may be told in full measure again that its packets are too big, in nanoseconds of jiffies; row 0 is for
/// everybody else. Private to one load, never pinned.
pub const REPLIES: MapSpec = spec::<u32, u64>("REPLIES", MapKind::Array, POD.max_entries, false);

/// Names of the programs that belong into [`PROGS`], by index. The loader fills it before it attaches a hook.
pub const STAGES: [&str; 9] = [
    "slow_flow",
    "slow_new",
    "slow_policy",
    "slow_route",
    "slow_record",
    "slow_finish",
    "slow_read",
    "slow_too_big",
    "decapsulate",
];

/// Name of the per-CPU scratch slot that hooks and stages share; private to one load, never pinned.
pub const SCRATCH: &str = "SCRATCH";
/// Name of the read-only global that takes [`config::Settings`].
pub const SETTINGS: &str = "SETTINGS";

/// Every map that user space reads or writes.
pub const ALL: [MapSpec; 18] = [
    PODS, POD, ROUTES, NODES, PEERS, CIDRS, POLICY, SERVICES, SLOTS, BACKENDS, FLOWS, HALFOPEN, FRAGS, POD_FLOWS,
    CONFIG, COUNTERS, EVENTS, PROGS,
];
