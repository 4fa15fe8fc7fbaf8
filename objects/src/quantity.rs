//! Quantities of resources: `100m`, `1.5`, `128Mi`, `1e3`.
//!
//! Source: apimachinery `pkg/api/resource`. Values are rounded up to 10^-9, as there.
use std::str::FromStr;

use serde::Deserialize;

/// An amount, in units of 10^-9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Quantity(pub i128);

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Thousandths, rounded up: CPU.
    pub fn milli(self) -> i64 {
        saturate(div_up(self.0, 1_000_000))
    }

    /// Whole units, rounded up: bytes, pods.
    pub fn value(self) -> i64 {
        saturate(div_up(self.0, NANO))
    }
}

/// The text is not a quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAQuantity;

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Quantity, NotAQuantity> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let (numerator, denominator) = scale(suffix).ok_or(NotAQuantity)?;
        let negative = number.starts_with('-');
        let number = number.strip_prefix(['+', '-']).unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
            return Err(NotAQuantity);
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().map_err(|_| NotAQuantity)?;
        let places = u32::try_from(fraction.len()).ok().and_then(|n| 10_i128.checked_pow(n)).ok_or(NotAQuantity)?;
        let scaled = mantissa.checked_mul(numerator).and_then(|n| n.checked_mul(NANO)).ok_or(NotAQuantity)?;
        let nano = div_up(scaled, places.checked_mul(denominator).ok_or(NotAQuantity)?);
        Ok(Quantity(if negative { -nano } else { nano }))
    }
}

/// What a suffix multiplies by, as a fraction.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power: i32| {
        let factor = 10_i128.checked_pow(power.unsigned_abs())?;
        Some(if power < 0 { (1, factor) } else { (factor, 1) })
    };
    let binary = |power: u32| Some((1_i128 << (10 * power), 1));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => decimal(exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|p: &i32| p.abs() <= 18)?),
    }
}

fn div_up(n: i128, d: i128) -> i128 {
    n.div_euclid(d) + i128::from(n.rem_euclid(d) != 0)
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        let text = match crate::IntOrString::deserialize(deserializer)? {
            crate::IntOrString::Int(number) => return Ok(Quantity(i128::from(number) * NANO)),
            crate::IntOrString::Name(text) => text,
        };
        text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not a quantity")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(i64, i64)>) {
        let quantity = text.parse::<Quantity>().ok();
        assert_eq!(quantity.map(|q| (q.milli(), q.value())), expected, "{text}");
    }

    #[test]
    fn parsed() {
        check("100m", Some((100, 1)));
        check("1.5", Some((1500, 2)));
        check("128Mi", Some((134_217_728_000, 134_217_728)));
        check("1e3", Some((1_000_000, 1000)));
        check("2E", Some((i64::MAX, 2_000_000_000_000_000_000)));
        check("1n", Some((1, 1)));
        check("-1.5", Some((-1500, -1)));
        check(".5", Some((500, 1)));
        check("0", Some((0, 0)));
        check("", None);
        check("1.2.3", None);
        check("1 Gi", None);
        check("Mi", None);
        check("--1", None);
        check("1e400", None);
    }
}
