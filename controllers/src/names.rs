//! Names that controllers give: derived, never drawn, so that reconcile functions stay pure.

/// apimachinery's rand alphabet: no vowels, so no words; no look-alikes.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest base of a generated name: 63 less the five characters of the suffix.
const MAX_BASE: usize = 58;

/// FNV-1a, 64 bits, over parts that cannot run into one another.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // FNV's low bits mix poorly on short input; finish as splitmix64 does.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// `base` with five characters that depend on the seed: what `generateName` looks like.
pub(crate) fn generated(base: &str, seed: &[&[u8]]) -> String {
    let end = base.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|end| *end <= MAX_BASE).last().unwrap_or(0);
    format!("{}{}", &base[..end], letters(hash(seed), 5))
}

/// A hash as upstream writes one in labels and names (rand.SafeEncodeString of its decimal digits).
pub(crate) fn encode(hash: u32) -> String {
    hash.to_string().bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

fn letters(mut hash: u64, count: usize) -> String {
    (0..count)
        .map(|_| {
            let letter = ALPHABET[usize::try_from(hash % 27).unwrap_or(0)];
            hash /= 27;
            char::from(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_differ_by_seed() {
        let name = generated("web-", &[b"uid", b"1"]);
        assert_eq!(name, generated("web-", &[b"uid", b"1"]));
        assert_ne!(name, generated("web-", &[b"uid", b"2"]));
        assert_eq!(name.len(), 9);
        assert_eq!(generated(&"x".repeat(80), &[b"s"]).len(), 63);
    }

    #[test]
    fn encoding_is_upstreams() {
        // SafeEncodeString maps each byte to alphabet[byte % 27].
        assert_eq!(encode(12), "56");
    }
}
