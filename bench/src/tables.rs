//! Rows of `abi` into the maps of a loaded object.
use abi::{addr::Prefix, map::MapSpec, policy::PolicyKey};
use anyhow::Context as _;
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, MapData, lpm_trie::Key},
};
use zerocopy::{Immutable, IntoBytes};

/// A row as bytes. `N` is the size of `T`, or this does not run.
pub(crate) fn raw<const N: usize>(value: &(impl IntoBytes + Immutable)) -> [u8; N] {
    value.as_bytes().try_into().expect("the size of a row is its type's")
}

/// Rows of a hash.
pub(crate) fn hash<K: Pod, V: Pod>(
    bpf: &mut Ebpf,
    spec: &MapSpec,
    rows: impl IntoIterator<Item = (K, V)>,
) -> anyhow::Result<()> {
    let mut table: HashMap<&mut MapData, K, V> = bpf.map_mut(spec.name).context(spec.name)?.try_into()?;
    rows.into_iter().try_for_each(|(key, value)| table.insert(key, value, 0).context(spec.name))
}

/// Rows of an array.
pub(crate) fn array<V: Pod>(
    bpf: &mut Ebpf,
    name: &'static str,
    rows: impl IntoIterator<Item = (u32, V)>,
) -> anyhow::Result<()> {
    let mut table: Array<&mut MapData, V> = bpf.map_mut(name).context(name)?.try_into()?;
    rows.into_iter().try_for_each(|(index, value)| table.set(index, value, 0).context(name))
}

/// Rows by prefix of an address.
pub(crate) fn prefixes<V: Pod>(
    bpf: &mut Ebpf,
    spec: &MapSpec,
    rows: impl IntoIterator<Item = (Prefix, V)>,
) -> anyhow::Result<()> {
    let mut table: LpmTrie<&mut MapData, [u8; 16], V> = bpf.map_mut(spec.name).context(spec.name)?.try_into()?;
    let put = |(prefix, value): (Prefix, V)| table.insert(&Key::new(prefix.prefix_len, prefix.addr.bytes()), value, 0);
    rows.into_iter().map(put).try_for_each(|put| put.context(spec.name))
}

/// Rows of `POLICY`.
pub(crate) fn rules<V: Pod>(
    bpf: &mut Ebpf,
    spec: &MapSpec,
    rows: impl IntoIterator<Item = (PolicyKey, V)>,
) -> anyhow::Result<()> {
    let mut table: LpmTrie<&mut MapData, [u8; 12], V> = bpf.map_mut(spec.name).context(spec.name)?.try_into()?;
    for (key, value) in rows {
        let bytes: [u8; 16] = raw(&key);
        let bits: [u8; 12] = bytes[4..].try_into().expect("the key without its length");
        table.insert(&Key::new(key.prefix_len, bits), value, 0).context(spec.name)?;
    }
    Ok(())
}
