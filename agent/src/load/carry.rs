//! What goes with a change of sets: the places of pods, nodes and backends, and the flows.
//!
//! Flows name pods, nodes and backends by place and generation, so a new set of compiled tables begins with those rows as
//! they were. Within a major version their fields keep their places and new ones come behind: a row of another length is
//! cut or filled with zeros, whichever version wrote it. Rows of flows are turned into those of the other layout. Everything
//! else is compiled from objects.
use std::{io, path::Path};

use abi::{
    config::Config,
    flow::{FlowValue, FormerValue, LAYOUT, Row},
    map,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{LoadError, open, open_as, pins::layout_of};
use crate::apply::syscall::RawMap;

/// Tables whose rows have places that flows name.
const PLACED: [&map::MapSpec; 3] = [&map::POD, &map::NODES, &map::BACKENDS];

/// Starts a new set of compiled tables from the one in force. No program reads it yet.
///
/// # Errors
/// [`LoadError::Map`], [`LoadError::Rows`].
pub fn places(from: &Path, to: &Path) -> Result<usize, LoadError> {
    let mut count = 0;
    for spec in PLACED {
        let (old, new) = (open_as(from, spec)?, open(to, spec)?);
        let mut result = Ok(());
        let copied = old.for_each(|key, value| {
            if result.is_ok() && value.iter().any(|byte| *byte != 0) {
                result = new.put(key, &resized(value, spec.value));
                count += 1;
            }
        });
        copied.and(result).map_err(|source| LoadError::Rows { table: spec.name, source })?;
    }
    // Two more: the low bit selects the same half of the pods' rows, and no flow is taken for one that these tables judged.
    let failed = |source| LoadError::Rows { table: map::CONFIG.name, source };
    let old = open_as(from, &map::CONFIG)?.get(&[0; 4]).map_err(failed)?.unwrap_or_default();
    let was = u64::read_from_prefix(&old).map_or(0, |(epoch, _)| epoch);
    let config = Config { epoch: was + 2, ..Config::default() };
    open(to, &map::CONFIG)?.put(&[0; 4], config.as_bytes()).map_err(failed)?;
    Ok(count)
}

fn resized(value: &[u8], size: usize) -> Vec<u8> {
    let mut row = value.to_vec();
    row.resize(size, 0);
    row
}

/// Copies the flows that `to` does not know. Half-open ones first: a flow that is promoted meanwhile is in both.
///
/// # Errors
/// [`LoadError::Map`], [`LoadError::Rows`]; not a table that is full, since its flows may stay half-open.
pub fn flows(from: &Path, to: &Path) -> Result<usize, LoadError> {
    copy(from, to, RawMap::add)
}

/// Brings `to` up to what `from` says now: nobody else writes there.
///
/// # Errors
/// As for [`flows`].
pub fn mirror(from: &Path, to: &Path) -> Result<usize, LoadError> {
    copy(from, to, |new, key, value| new.put(key, value).map(|()| true))
}

fn copy(from: &Path, to: &Path, put: impl Fn(&RawMap, &[u8], &[u8]) -> io::Result<bool>) -> Result<usize, LoadError> {
    let mut count = 0;
    let [before, now] = [from, to].map(|set| layout_of(set).unwrap_or(LAYOUT));
    let turn = turning(before, now);
    let [established, half_open] = map::flow_tables(before);
    let [established_now, half_open_now] = map::flow_tables(now);
    for (spec, into) in [(&half_open, &half_open_now), (&established, &established_now)] {
        let (old, new) = (open(from, spec)?, open(to, into)?);
        let mut result = Ok(());
        let copied = old.for_each(|key, value| match put(&new, key, &turn(value)) {
            Ok(added) => count += usize::from(added),
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {}
            Err(error) => result = Err(error),
        });
        copied.and(result).map_err(|source| LoadError::Rows { table: spec.name, source })?;
    }
    Ok(count)
}

/// How a row of one layout becomes one of another.
fn turning(from: u32, to: u32) -> fn(&[u8]) -> Vec<u8> {
    match (from == LAYOUT, to == LAYOUT) {
        (false, true) => turned::<FormerValue, FlowValue>,
        (true, false) => turned::<FlowValue, FormerValue>,
        _ => <[u8]>::to_vec,
    }
}

fn turned<A: Row, B: Row>(row: &[u8]) -> Vec<u8> {
    let row = A::read_from_bytes(row).expect("the map was opened by the size of its rows");
    let (mut value, mut other) = (FlowValue::new_zeroed(), B::new_zeroed());
    row.tell(&mut value);
    other.set(&value);
    other.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::resized;

    #[test]
    fn rows_are_cut_or_filled() {
        assert_eq!(resized(&[1, 2, 3], 5), [1, 2, 3, 0, 0]);
        assert_eq!(resized(&[1, 2, 3], 2), [1, 2]);
    }
}
