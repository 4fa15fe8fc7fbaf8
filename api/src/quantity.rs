//! `resource.Quantity`: `100m`, `1.5Gi`, `2e3`. Exact within an i128 of nano-units.

use std::fmt;

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nano: i128,
}

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseError;

impl Quantity {
    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Quantity, ParseError> {
        let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let negative = number.starts_with('-');
        let digits = number.trim_start_matches(['+', '-']);
        if number.len() - digits.len() > 1 || digits.contains(['+', '-']) {
            return Err(ParseError);
        }
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError);
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().map_err(|_| ParseError)?;
        let scale = u32::try_from(fraction.len()).map_err(|_| ParseError)?;
        let nano = scaled(mantissa, scale, suffix).ok_or(ParseError)?;
        Ok(Quantity { nano: if negative { -nano } else { nano } })
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// The next whole number: bytes, counts.
    pub fn value(self) -> i128 {
        self.nano.div_euclid(NANO) + i128::from(self.nano.rem_euclid(NANO) != 0)
    }

    /// The next whole number of thousandths: CPUs.
    pub fn milli(self) -> i128 {
        let unit = NANO / 1000;
        self.nano.div_euclid(unit) + i128::from(self.nano.rem_euclid(unit) != 0)
    }

    /// Whether it is a whole number.
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }
}

const NANO: i128 = 1_000_000_000;

/// `mantissa * 10^-scale * suffix` in nano-units; what is finer is rounded up, as upstream does.
fn scaled(mantissa: i128, scale: u32, suffix: &str) -> Option<i128> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|s| *s == suffix);
    let (multiplier, exponent) = match (binary, suffix) {
        (Some(i), _) => (1024i128.pow(u32::try_from(i).ok()? + 1), 0),
        (None, "n") => (1, -9),
        (None, "u") => (1, -6),
        (None, "m") => (1, -3),
        (None, "") => (1, 0),
        (None, "k") => (1, 3),
        (None, "M") => (1, 6),
        (None, "G") => (1, 9),
        (None, "T") => (1, 12),
        (None, "P") => (1, 15),
        (None, "E") => (1, 18),
        (None, other) => (1, other.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?),
    };
    let power = exponent + 9 - i32::try_from(scale).ok()?;
    let base = mantissa.checked_mul(multiplier)?;
    let factor = 10i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        base.checked_mul(factor)
    } else {
        Some(base.div_euclid(factor) + i128::from(base.rem_euclid(factor) != 0))
    }
}

/// The canonical text: no fraction, the largest suffix that keeps it whole, of the family that the text has.
pub fn canonical(text: &str) -> Result<String, ParseError> {
    let quantity = Quantity::parse(text)?;
    let suffix = text.trim_start_matches(|c: char| matches!(c, '0'..='9' | '.' | '+' | '-'));
    if quantity.is_zero() {
        return Ok("0".to_owned());
    }
    let exponent = suffix.len() > 1 && suffix.starts_with(['e', 'E']);
    if suffix.ends_with('i') && quantity.is_whole() && quantity.nano.abs() >= 1024 * NANO {
        let (mut whole, mut power) = (quantity.nano / NANO, 0);
        while whole % 1024 == 0 && power < 6 {
            (whole, power) = (whole / 1024, power + 1);
        }
        return Ok(format!("{whole}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]));
    }
    let (mut whole, mut power) = (quantity.nano, 0);
    while whole % 1000 == 0 && power < 9 {
        (whole, power) = (whole / 1000, power + 1);
    }
    let tens = 3 * (i32::try_from(power).unwrap_or(9) - 3);
    Ok(match exponent {
        true if tens == 0 => whole.to_string(),
        true => format!("{whole}e{tens}"),
        false => format!("{whole}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power]),
    })
}

impl fmt::Display for Quantity {
    /// Decimal form: whole, or the smallest fitting of `m`, `u`, `n`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, suffix) in [(NANO, ""), (NANO / 1000, "m"), (1000, "u"), (1, "n")] {
            if self.nano % unit == 0 {
                return write!(f, "{}{suffix}", self.nano / unit);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, milli: i128) {
        assert_eq!(Quantity::parse(text).map(Quantity::milli), Ok(milli), "{text}");
    }

    #[test]
    fn forms() {
        check("1", 1000);
        check("100m", 100);
        check("1.5", 1500);
        check("0.1", 100);
        check("1Ki", 1_024_000);
        check("1.5Gi", 1_610_612_736_000);
        check("2e3", 2_000_000);
        check("1E", 1_000_000_000_000_000_000_000);
        check(".5", 500);
        check("-1", -1000);
        check("1n", 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "m", "1x", "1.2.3", "--1", "1 ", "e3", "0x1", "1Kib"] {
            assert_eq!(Quantity::parse(text), Err(ParseError), "{text}");
        }
    }

    #[test]
    fn canonical_forms() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(canonical(text).as_deref(), Ok(expected));
        }
        check("1000m", "1");
        check("0.5", "500m");
        check("1024Mi", "1Gi");
        check("1.5Gi", "1536Mi");
        check("1500", "1500");
        check("1000", "1k");
        check("0Mi", "0");
        check("1e3", "1e3");
        check("0.5Ki", "512");
        check("110", "110");
        check("-1000m", "-1");
    }

    #[test]
    fn order_and_rounding() {
        assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
        assert_eq!(Quantity::parse("100m").unwrap().value(), 1);
        assert_eq!(Quantity::parse("1500m").unwrap().to_string(), "1500m");
    }
}
