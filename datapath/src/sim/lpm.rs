//! A longest-prefix-match table as the kernel's: bits are counted from the first byte in memory.
use std::collections::BTreeMap;

/// Keys of `N` bytes; rows sorted from the longest prefix to the shortest.
#[derive(Clone, Debug)]
pub struct Lpm<const N: usize, V> {
    by_length: BTreeMap<u32, BTreeMap<[u8; N], V>>,
}

impl<const N: usize, V> Default for Lpm<N, V> {
    fn default() -> Self {
        Lpm { by_length: BTreeMap::new() }
    }
}

impl<const N: usize, V> Lpm<N, V> {
    /// Writes a row.
    pub fn put(&mut self, prefix_len: u32, bytes: [u8; N], value: V) {
        self.by_length.entry(prefix_len).or_default().insert(mask(bytes, prefix_len), value);
    }

    /// Deletes a row.
    pub fn remove(&mut self, prefix_len: u32, bytes: [u8; N]) {
        if let Some(rows) = self.by_length.get_mut(&prefix_len) {
            rows.remove(&mask(bytes, prefix_len));
        }
    }

    /// The row of the longest prefix that the bytes begin with.
    pub fn get(&self, bytes: &[u8; N]) -> Option<&V> {
        self.by_length.iter().rev().find_map(|(length, rows)| rows.get(&mask(*bytes, *length)))
    }

    /// Every row: prefix length, bytes, value.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8; N], &V)> {
        self.by_length.iter().flat_map(|(length, rows)| rows.iter().map(move |(bytes, value)| (*length, bytes, value)))
    }
}

fn mask<const N: usize>(mut bytes: [u8; N], prefix_len: u32) -> [u8; N] {
    for (index, byte) in bytes.iter_mut().enumerate() {
        let kept = prefix_len.saturating_sub(index as u32 * 8).min(8);
        *byte &= (0xff00_u16 >> kept) as u8;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::Lpm;

    #[track_caller]
    fn check(key: [u8; 4], expected: Option<&str>) {
        let mut table = Lpm::default();
        table.put(8, [10, 0, 0, 0], "ten");
        table.put(20, [10, 244, 16, 0], "twenty bits");
        table.put(32, [10, 244, 16, 9], "one");
        assert_eq!(table.get(&key).copied(), expected);
    }

    #[test]
    fn the_longest_wins() {
        check([10, 1, 2, 3], Some("ten"));
        check([10, 244, 31, 3], Some("twenty bits"));
        check([10, 244, 32, 3], Some("ten"));
        check([10, 244, 16, 9], Some("one"));
        check([11, 0, 0, 0], None);
    }
}
