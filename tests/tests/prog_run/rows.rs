//! The model's tables, written into the kernel's maps.
use abi::{
    config::Config,
    flow::{FlowKey, FlowValue},
    fragment::{Fragment, FragmentKey},
    map::{self, MapSpec},
};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use datapath::sim::{Lpm, Node};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of a flow's row.
const VALUE: usize = size_of::<FlowValue>();

/// A table row as bytes.
fn raw<const N: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; N] {
    value.as_bytes().try_into().unwrap()
}

/// Every table but the flows.
pub(crate) fn write(ebpf: &mut Ebpf, node: &Node) {
    hash(ebpf, map::PODS.name, node.pods.iter().map(|(k, v)| (raw::<16>(k), raw::<4>(v))));
    array(ebpf, map::POD.name, node.pod.iter().map(|(k, v)| (*k, raw::<88>(v))));
    lpm(ebpf, map::ROUTES.name, &node.routes, raw::<8>);
    array(ebpf, map::NODES.name, node.nodes.iter().map(|(k, v)| (*k, raw::<64>(v))));
    hash(ebpf, map::PEERS.name, node.peers.iter().map(|(k, v)| (raw::<16>(k), raw::<4>(v))));
    lpm(ebpf, map::CIDRS.name, &node.cidrs, raw::<4>);
    lpm(ebpf, map::POLICY.name, &node.policy, raw::<16>);
    hash(ebpf, map::SERVICES.name, node.services.iter().map(|(k, v)| (raw::<20>(k), raw::<32>(v))));
    array(ebpf, map::SLOTS.name, node.slots.iter().map(|(k, v)| (*k, raw::<4>(v))));
    array(ebpf, map::BACKENDS.name, node.backends.iter().map(|(k, v)| (*k, raw::<40>(v))));
    let config = Config { epoch: node.epoch, ..Config::default() };
    array(ebpf, map::CONFIG.name, [(0, raw::<64>(&config))].into_iter());
}

/// Arrays that hold a node's state, all of `ROWS` rows: the scenarios' ids are small.
pub(crate) const ARRAYS: [MapSpec; 7] =
    [map::POD, map::NODES, map::SLOTS, map::BACKENDS, map::POD_FLOWS, map::BUCKETS, map::REPLIES];
pub(crate) const ROWS: u32 = 512;

/// As after a load: what [`write`] does not write whole is emptied.
pub(crate) fn clear(ebpf: &mut Ebpf) {
    array(ebpf, map::POD.name, (0..ROWS).map(|row| (row, [0_u8; 88])));
    array(ebpf, map::NODES.name, (0..ROWS).map(|row| (row, [0_u8; 64])));
    array(ebpf, map::SLOTS.name, (0..ROWS).map(|row| (row, [0_u8; 4])));
    array(ebpf, map::BACKENDS.name, (0..ROWS).map(|row| (row, [0_u8; 40])));
    for spec in [map::POD_FLOWS, map::BUCKETS, map::REPLIES] {
        array(ebpf, spec.name, (0..ROWS).map(|row| (row, [0_u8; 8])));
    }
    hash::<[u8; 40], [u8; VALUE]>(ebpf, map::FLOWS.name, std::iter::empty());
    hash::<[u8; 40], [u8; VALUE]>(ebpf, map::HALFOPEN.name, std::iter::empty());
    hash::<[u8; size_of::<FragmentKey>()], [u8; size_of::<Fragment>()]>(ebpf, map::FRAGS.name, std::iter::empty());
}

/// Takes a row out of a table of flows.
pub(crate) fn remove(ebpf: &mut Ebpf, name: &str, key: &FlowKey) {
    let mut table: HashMap<_, [u8; 40], [u8; VALUE]> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    table.remove(&raw::<40>(key)).unwrap();
}

/// Half-open flows began so much earlier: the kernel's clock is not ours to set.
pub(crate) fn age(ebpf: &mut Ebpf, jiffies: u64) {
    let mut table: HashMap<_, [u8; 40], [u8; VALUE]> = ebpf.map_mut(map::HALFOPEN.name).unwrap().try_into().unwrap();
    let rows: Vec<_> = table.iter().map(Result::unwrap).collect();
    for (key, bytes) in rows {
        let mut value = FlowValue::read_from_bytes(&bytes).unwrap();
        value.created -= jiffies;
        table.insert(key, raw::<VALUE>(&value), 0).unwrap();
    }
}

fn hash<K: Pod + PartialEq, V: Pod>(ebpf: &mut Ebpf, name: &str, rows: impl Iterator<Item = (K, V)>) {
    let mut table: HashMap<_, K, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    let old: Vec<K> = table.keys().map(Result::unwrap).collect();
    for key in old {
        table.remove(&key).unwrap();
    }
    for (key, value) in rows {
        table.insert(key, value, 0).unwrap();
    }
}

fn array<V: Pod>(ebpf: &mut Ebpf, name: &str, rows: impl Iterator<Item = (u32, V)>) {
    let mut table: Array<_, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    for (index, value) in rows {
        table.set(index, value, 0).unwrap();
    }
}

fn lpm<const N: usize, R, V: Pod>(ebpf: &mut Ebpf, name: &str, rows: &Lpm<N, R>, raw: impl Fn(&R) -> V)
where
    [u8; N]: Pod,
{
    let mut table: LpmTrie<_, [u8; N], V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    let old: Vec<Key<[u8; N]>> = table.keys().map(Result::unwrap).collect();
    for key in old {
        table.remove(&key).unwrap();
    }
    for (length, bytes, value) in rows.iter() {
        table.insert(&Key::new(length, *bytes), raw(value), 0).unwrap();
    }
}
