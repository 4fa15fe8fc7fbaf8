//! Ids that are hashes of content (design section 4, point 3): a restart, or another agent, derives the same ones.
use std::collections::{BTreeMap, BTreeSet};

/// 64 bits of a text: FNV-1a with a final mix. Fixed for ever, since pinned tables hold what comes of it.
pub fn hash(text: &str, salt: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The finaliser of MurmurHash3: FNV alone leaves the high bits of short texts poor.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Distinct ids for distinct contents, never 0. Of two contents that collide the one that sorts later is hashed again,
/// so the result depends on the set alone.
pub fn ids<'a>(contents: &BTreeSet<&'a str>) -> BTreeMap<&'a str, u32> {
    ids_by(contents, |content, salt| hash(content, salt) as u32)
}

fn ids_by<'a>(contents: &BTreeSet<&'a str>, hash: impl Fn(&str, u64) -> u32) -> BTreeMap<&'a str, u32> {
    let mut taken = BTreeSet::from([0]);
    let mut ids = BTreeMap::new();
    for &content in contents {
        let id = (0..).map(|salt| hash(content, salt)).find(|id| taken.insert(*id));
        ids.insert(content, id.expect("there are fewer contents than ids"));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_for_ever() {
        assert_eq!(hash("", 0), 0xefd0_1f60_ba99_2926);
        assert_ne!(hash("a", 0), hash("a", 1));
    }

    #[test]
    fn collisions_are_resolved_by_order() {
        let contents = BTreeSet::from(["a", "b", "c"]);
        let ids = ids_by(&contents, |content, salt| if content == "c" { 9 } else { salt as u32 });
        assert_eq!(ids, BTreeMap::from([("a", 1), ("b", 2), ("c", 9)]));
    }
}
