//! Ranges of pod addresses: how many there are, how many are in use, and which is the next. Pure.
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use super::Entry;

/// The most pods that are counted of one range: no node has more, and a /64 has more than any number here.
const MOST: u128 = 1 << 24;

/// Addresses that pods may have: not the network's own, not its gateway (the first), not the broadcast.
pub(super) fn size(range: IpNetwork) -> u128 {
    all(range).min(MOST)
}

/// The same, uncounted.
fn all(range: IpNetwork) -> u128 {
    let (bits, reserved) = if range.is_ipv4() { (32, 3) } else { (128, 2) };
    let all = 1_u128.checked_shl(bits - u32::from(range.prefix())).unwrap_or(u128::MAX);
    all.saturating_sub(reserved)
}

/// True if a pod may have the address.
pub(super) fn is_pods(range: IpNetwork, address: IpAddr) -> bool {
    let offset = number(address).checked_sub(number(range.network()) + 2);
    range.is_ipv4() == address.is_ipv4() && offset.is_some_and(|offset| offset < all(range))
}

/// Of each range, how many of its addresses are in use, and how many pods may have.
pub fn use_of(ranges: &[IpNetwork], entries: &[Entry]) -> Vec<(IpNetwork, u64, u64)> {
    let of = |range: &IpNetwork| {
        let addresses = entries.iter().flat_map(|entry| &entry.addresses);
        let used = addresses.filter(|address| range.contains(**address)).count();
        (*range, used as u64, u64::try_from(size(*range)).unwrap_or(u64::MAX))
    };
    ranges.iter().map(of).collect()
}

/// How many pods these ranges have addresses for: each needs one of each.
pub fn capacity(ranges: &[IpNetwork]) -> u32 {
    let least = ranges.iter().map(|range| size(*range)).min().unwrap_or(0);
    u32::try_from(least).unwrap_or(u32::MAX)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => Ipv4Addr::from(number).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

/// The first free address behind `last`, in a circle.
pub(super) fn next(range: IpNetwork, last: Option<IpAddr>, used: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let first = number(range.network()) + 2;
    let count = size(range);
    let start = last.map_or(0, |last| number(last).wrapping_sub(first).wrapping_add(1));
    let start = if start < count { start } else { 0 };
    let all = (0..count).map(|step| address(first + (start + step) % count, range.is_ipv4()));
    all.into_iter().find(|address| !used.contains(address))
}
