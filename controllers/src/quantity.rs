//! Quantities (`100m`, `1Gi`, `0.5`, `1e3`) as integers. Rounded up, as upstream's MilliValue and Value.

/// In thousandths: CPU.
pub(crate) fn milli(text: &str) -> i64 {
    nano(text).map_or(0, |n| ceil(n, 1_000_000))
}

/// In whole units: bytes, counts.
pub(crate) fn value(text: &str) -> i64 {
    nano(text).map_or(0, |n| ceil(n, 1_000_000_000))
}

fn ceil(nano: i128, unit: i128) -> i64 {
    i64::try_from((nano + unit - 1).div_euclid(unit)).unwrap_or(i64::MAX)
}

fn nano(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches(['+', '-']);
    let mut nano: i128 = if digits.is_empty() { 0 } else { digits.parse::<i128>().ok()?.checked_mul(1_000_000_000)? };
    let mut unit: i128 = 100_000_000;
    for digit in fraction.bytes() {
        nano += i128::from(digit.wrapping_sub(b'0')) * unit;
        unit /= 10;
    }
    let (times, divided) = scale(suffix)?;
    let scaled = nano.checked_mul(times)?.div_euclid(divided);
    Some(if negative { -scaled } else { scaled })
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if let Some(power) = BINARY.iter().position(|s| *s == suffix) {
        return Some((1 << (10 * (power + 1)), 1));
    }
    if let Some(power) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((10_i128.pow(3 * (u32::try_from(power).ok()? + 1)), 1));
    }
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1_000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, 1_000_000_000)),
        _ => {
            let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_i128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected_milli: i64, expected_value: i64) {
        assert_eq!((milli(text), value(text)), (expected_milli, expected_value), "{text}");
    }

    #[test]
    fn quantities() {
        check("100m", 100, 1);
        check("2", 2000, 2);
        check("0.5", 500, 1);
        check("1.5", 1500, 2);
        check("1Ki", 1_024_000, 1024);
        check("128Mi", 134_217_728_000, 134_217_728);
        check("1G", 1_000_000_000_000, 1_000_000_000);
        check("1e3", 1_000_000, 1000);
        check("500u", 1, 1);
        check("", 0, 0);
        check("nonsense", 0, 0);
    }
}
