//! Times: `metav1.Time` (whole seconds) and `metav1.MicroTime`, both RFC 3339 in UTC.

use jiff::Timestamp;

/// Reads an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    // jiff takes more than RFC 3339 (a space for the T, bracketed zones); Go does not.
    let plain = text.len() >= 20 && text.as_bytes()[10] == b'T' && !text.contains('[');
    text.parse().ok().filter(|_| plain)
}

/// `2026-11-21T03:17:00Z`.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-21T03:17:00.000000Z`.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_become_utc() {
        let time = parse_time("2026-11-21T03:17:00.5+01:00").unwrap();
        assert_eq!(format_time(time), "2026-11-21T02:17:00Z");
        assert_eq!(format_micro_time(time), "2026-11-21T02:17:00.500000Z");
        assert!(parse_time("2026-11-21").is_none() && parse_time("2026-11-21 03:17:00Z").is_none());
    }
}
