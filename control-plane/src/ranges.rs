//! Ranges of addresses as the command line gives them: one, or one of each family.
use std::fmt;
use std::str::FromStr;

use api::registry::family::Family;
use ipnetwork::IpNetwork;

/// One range, or one of each family; the first is of the cluster's primary family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    primary: IpNetwork,
    secondary: Option<IpNetwork>,
}

/// Why a text is not that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither CIDR.
    #[error("{text:?} is no range: write it like 10.96.0.0/16 or fd00:10:96::/112")]
    Range {
        /// What was given.
        text: String,
    },
    /// The same family twice.
    #[error("{first} and {second} are both {family}: give one range, or one of each family")]
    SameFamily {
        /// The first range.
        first: IpNetwork,
        /// The second range.
        second: IpNetwork,
        /// Of both.
        family: Family,
    },
    /// More than two.
    #[error("these are {count} ranges: give one, or one of each family")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Ranges {
    /// The first.
    pub fn primary(&self) -> IpNetwork {
        self.primary
    }

    /// All, the primary one first.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> {
        std::iter::once(self.primary).chain(self.secondary)
    }

    /// The families of all.
    pub fn families(&self) -> Vec<Family> {
        self.iter().map(|range| Family::of(range.ip())).collect()
    }

    /// That of a family.
    pub fn of(&self, family: Family) -> Option<IpNetwork> {
        self.iter().find(|range| Family::of(range.ip()) == family)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.primary)?;
        self.secondary.map_or(Ok(()), |range| write!(formatter, ",{range}"))
    }
}

impl FromStr for Ranges {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let ranges: Vec<IpNetwork> = text.split(',').map(range).collect::<Result<_, Error>>()?;
        match ranges[..] {
            [first, second] if first.is_ipv4() == second.is_ipv4() => {
                Err(Error::SameFamily { first, second, family: Family::of(first.ip()) })
            }
            [primary] => Ok(Self { primary, secondary: None }),
            [primary, secondary] => Ok(Self { primary, secondary: Some(secondary) }),
            _ => Err(Error::TooMany { count: ranges.len() }),
        }
    }
}

/// Bits beyond the prefix are dropped, as upstream does.
fn range(text: &str) -> Result<IpNetwork, Error> {
    let text = text.trim();
    let parsed: Option<IpNetwork> = text.parse().ok().filter(|_| text.contains('/'));
    parsed
        .and_then(|range| IpNetwork::new(range.network(), range.prefix()).ok())
        .ok_or_else(|| Error::Range { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = text.parse::<Ranges>().map(|ranges| ranges.to_string()).map_err(|error| error.to_string());
        assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn one_range_or_one_of_each_family() {
        check("10.96.0.0/16", Ok("10.96.0.0/16"));
        check("fd00:10:96::/112", Ok("fd00:10:96::/112"));
        check("10.96.0.0/16, fd00:10:96::/112", Ok("10.96.0.0/16,fd00:10:96::/112"));
        check("fd00:10:96::/112,10.96.0.0/16", Ok("fd00:10:96::/112,10.96.0.0/16"));
        check("10.96.7.7/16", Ok("10.96.0.0/16"));
        let same = "10.96.0.0/16 and 10.97.0.0/16 are both IPv4: give one range, or one of each family";
        check("10.96.0.0/16,10.97.0.0/16", Err(same));
        check("10.96.0.0/16,fd00::/112,fd01::/112", Err("these are 3 ranges: give one, or one of each family"));
        let none = |text: &str| format!("{text:?} is no range: write it like 10.96.0.0/16 or fd00:10:96::/112");
        for text in ["", "10.96.0.0", "10.96.0.0/33", "fd00::/129", "web"] {
            check(text, Err(&none(text)));
        }
        check("10.96.0.0/16,", Err(&none("")));
    }
}
