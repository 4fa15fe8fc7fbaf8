//! The flow tables as user space sees them: `weft flow list`, and the sweep of what has expired.
//!
//! An expired row is a miss for the datapath whether it is swept or not (`abi::timeout` decides); the sweep only
//! makes room, and counts what each pod has of it. It waits a little longer than the datapath, so that it never takes what
//! is still in use.
use std::{collections::BTreeMap, io, path::Path};

use abi::{
    flow::{FlowKey, FlowValue, PAIRED, PROMOTED},
    map,
    pod::{NONE, PodId},
    timeout::{self, Timeouts},
};
use agent_api::v1;
use nix::time::{ClockId, clock_getres, clock_gettime};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    apply::syscall::RawMap,
    load::{self, LoadError},
    names::Namer,
};

/// The flow tables.
pub struct Flows {
    established: RawMap,
    half_open: RawMap,
    fragments: RawMap,
    shares: RawMap,
    timeouts: Timeouts,
    hz: u64,
}

/// Seconds that the sweep waits beyond the datapath: user space knows the kernel's clock only roughly.
const MARGIN: u64 = 5;
/// Bytes of keys that the sweep removes at once: no request to the kernel takes long, and none needs much memory.
const AT_ONCE: usize = 4_096 * size_of::<FlowKey>();

impl Flows {
    /// Opens the pinned tables: a set, and the maps that are in none. The timeouts are those that the programs go by.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn open(set: &Path, maps: &Path, timeouts: Timeouts) -> Result<Flows, LoadError> {
        let (established, half_open) = (load::open(set, &map::FLOWS)?, load::open(set, &map::HALFOPEN)?);
        let (fragments, shares) = (load::open(maps, &map::FRAGS)?, load::open(maps, &map::POD_FLOWS)?);
        Ok(Flows { established, half_open, fragments, shares, timeouts, hz: u64::from(jiffies_per_second()) })
    }

    /// Rows of `FLOWS`, `HALFOPEN` and `FRAGS`. Those that have expired count until they are swept or displaced.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn counts(&self) -> io::Result<[u32; 3]> {
        Ok([self.established.count()?, self.half_open.count()?, self.fragments.count()?])
    }

    /// Removes expired rows, and counts anew what each pod has of the rest; how many it removed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sweep(&self) -> io::Result<usize> {
        let now = jiffies(self.hz);
        let (mut expired, mut removed) = (Vec::new(), 0);
        let mut shares = BTreeMap::<PodId, u64>::new();
        let mut result = Ok(());
        self.established.for_each(|key, value| {
            let row = FlowKey::read_from_bytes(key).ok().zip(FlowValue::read_from_bytes(value).ok());
            let Some((key, value)) = row else { return };
            if !self.over(&key, &value, now) {
                *shares.entry(value.owner()).or_default() += 1;
                return;
            }
            expired.extend_from_slice(key.as_bytes());
            removed += 1;
            if expired.len() >= AT_ONCE && result.is_ok() {
                result = self.established.delete_batch(&mut expired);
                expired.clear();
            }
        })?;
        result?;
        self.established.delete_batch(&mut expired)?;
        self.share(&shares)?;
        Ok(removed)
    }

    /// Writes what each pod has, where that is not what the datapath has counted.
    fn share(&self, shares: &BTreeMap<PodId, u64>) -> io::Result<()> {
        let mut wrong = Vec::new();
        self.shares.for_each(|id, counted| {
            let row = PodId::read_from_bytes(id).ok().zip(u64::read_from_bytes(counted).ok());
            let Some((id, counted)) = row else { return };
            let share = shares.get(&id).copied().unwrap_or(0);
            if id != NONE && share != counted {
                wrong.push((id, share));
            }
        })?;
        wrong.iter().try_for_each(|(id, share)| self.shares.put(id.as_bytes(), share.as_bytes()))
    }

    fn over(&self, key: &FlowKey, value: &FlowValue, now: u64) -> bool {
        let seconds = timeout::of(value, key.proto, |timeout| self.timeouts.seconds(timeout));
        let limit = (u64::from(seconds) + MARGIN) * self.hz;
        let idle = |last: u64| now.saturating_sub(last) > limit;
        // A translated flow lives as long as either half is used.
        idle(value.last()) && self.twin(key, value).is_none_or(|twin| idle(twin.last()))
    }

    fn twin(&self, key: &FlowKey, value: &FlowValue) -> Option<FlowValue> {
        if value.flags & PAIRED == 0 {
            return None;
        }
        let (twin, _) = value.to.key(key.proto, value.twin_side());
        let row = self.established.get(twin.as_bytes()).ok()??;
        FlowValue::read_from_bytes(&row).ok()
    }

    /// Flows by their first packet's direction, at most `limit`, what was used last first.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn list(&self, namer: &Namer, limit: usize, pod: &str) -> io::Result<Vec<v1::Flow>> {
        let now = jiffies(self.hz);
        let mut flows = Vec::new();
        for (table, state) in [(&self.established, "established"), (&self.half_open, "half-open")] {
            table.for_each(|key, value| {
                let row = FlowKey::read_from_bytes(key).ok().zip(FlowValue::read_from_bytes(value).ok());
                let Some((key, value)) = row else { return };
                // Of a translated flow, the half of the first packet's direction; of a promoted one, the promoted row.
                let forward = value.forward();
                let shown = value.legs[forward].device != 0 && (state == "established" || value.flags & PROMOTED == 0);
                // A flow that moves meanwhile is in both tables for a moment.
                let twice = || state == "half-open" && matches!(self.established.get(key.as_bytes()), Ok(Some(_)));
                if flows.len() < limit && shown && !twice() {
                    let flow = self.flow(&key, &value, namer, state, now);
                    let ends = [&flow.source, &flow.destination, &flow.translated];
                    if pod.is_empty() || ends.into_iter().flatten().any(|end| end.name == pod) {
                        flows.push(flow);
                    }
                }
            })?;
        }
        flows.sort_by_key(|flow| flow.idle_ms);
        Ok(flows)
    }

    fn flow(&self, key: &FlowKey, value: &FlowValue, namer: &Namer, state: &str, now: u64) -> v1::Flow {
        let tuple = key.tuple(value.forward());
        let paired = value.flags & PAIRED != 0;
        let translated = paired.then(|| {
            let changed_source = (value.to.src, value.to.sport) != (tuple.src, tuple.sport);
            let same_destination = (value.to.dst, value.to.dport) == (tuple.dst, tuple.dport);
            let (addr, port) = if changed_source && same_destination {
                (value.to.src, value.to.sport)
            } else {
                (value.to.dst, value.to.dport)
            };
            namer.endpoint(addr, port, NONE)
        });
        let idle = now.saturating_sub(value.last());
        let source = namer.endpoint(tuple.src, tuple.sport, NONE);
        let destination = namer.endpoint(tuple.dst, tuple.dport, NONE);
        let proto = crate::text::proto(key.proto);
        let text = format!("{proto} {tuple:?} {value:?}");
        v1::Flow {
            proto,
            source: Some(source),
            destination: Some(destination),
            translated,
            state: state.to_owned(),
            packets: value.packets(),
            bytes: value.bytes(),
            idle_ms: idle * 1_000 / self.hz.max(1),
            policies: namer.allowed_by(value.rules),
            text,
        }
    }
}

/// `CONFIG_HZ`: the coarse clock ticks once a jiffy.
pub fn jiffies_per_second() -> u32 {
    let tick = clock_getres(ClockId::CLOCK_REALTIME_COARSE).map_or(0, |time| time.tv_nsec());
    u32::try_from(1_000_000_000_i64.checked_div(tick).unwrap_or(1_000)).unwrap_or(1_000)
}

/// `jiffies_64` now, to within a few ticks: it starts 300 s before 2^32 (`INITIAL_JIFFIES`) and goes with the clock.
fn jiffies(hz: u64) -> u64 {
    let up = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec().cast_unsigned() * hz + time.tv_nsec().cast_unsigned() * hz / 1_000_000_000);
    (1 << 32) - 300 * hz + up
}
