//! Internet checksums (RFC 1071, RFC 1624): how they change when fields change.

/// What a 32-bit field's change adds to a sum of one's complement.
#[inline(always)]
pub const fn change(old: u32, new: u32) -> u64 {
    !old as u64 + new as u64
}

/// A sum folded to 32 bits, as the kernel's checksum helpers take it.
#[inline(always)]
pub const fn fold32(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A sum folded to 16 bits.
#[inline(always)]
pub const fn fold16(sum: u64) -> u16 {
    let sum = fold32(sum);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field after a change: RFC 1624, equation 3.
#[inline(always)]
pub const fn update(field: u16, change: u64) -> u16 {
    !fold16(!field as u64 + change)
}

/// The checksum of whole bytes, with a sum to start from; for tests and made-up packets.
pub fn of(bytes: &[u8], start: u64) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    !fold16(sum)
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(before: [u8; 8], after: [u8; 8]) {
        let word = |b: &[u8; 8], i: usize| u32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
        let change =
            super::change(word(&before, 0), word(&after, 0)) + super::change(word(&before, 4), word(&after, 4));
        assert_eq!(super::update(super::of(&before, 0), change), super::of(&after, 0));
    }

    #[test]
    fn incremental_is_the_same_as_anew() {
        check([10, 0, 0, 1, 10, 0, 0, 2], [10, 244, 1, 7, 172, 31, 0, 11]);
        check([255; 8], [1, 2, 3, 4, 5, 6, 7, 8]);
        check([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
