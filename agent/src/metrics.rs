//! `/metrics`: everything is read at the moment of the scrape, nothing is counted twice.
use std::sync::Arc;

use abi::{
    DropReason,
    event::{Counter, Hook, Kept, counter},
    map::COUNTERS,
};
use agent_api::v1::status_reply::{Addresses, Table};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Shared, apply::syscall::RawMap, status};

/// The metrics in OpenMetrics text.
pub fn text(shared: &Arc<Shared>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(shared.clone())));
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

struct Scrape(Arc<Shared>);

impl std::fmt::Debug for Scrape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let status = status::status(&self.0);
        gauge(&mut encoder, "weft_agent_ready", "1 if the node's network is ready", u64::from(status.ready))?;
        gauge(&mut encoder, "weft_agent_issues", "Objects that could not be compiled", status.issues.len() as u64)?;
        gauge(&mut encoder, "weft_pods", "Pods of this node with an interface of ours", u64::from(status.pods))?;
        gauge(&mut encoder, "weft_policy_epoch", "The policy epoch in force", status.epoch)?;
        let help = "Rounds of compile, diff and apply";
        let mut rounds = encoder.encode_descriptor("weft_agent_rounds", help, None, MetricType::Counter)?;
        ConstCounter::new(status.rounds).encode(rounds.encode_family(&[("result", "applied")])?)?;
        let of_tables = |value: fn(&Table) -> u32| {
            status.tables.iter().map(move |table| (table.name.as_str(), u64::from(value(table))))
        };
        let (entries, room) = (of_tables(|table| table.used), of_tables(|table| table.max));
        gauges(&mut encoder, "weft_table_entries", "Entries of a table of the datapath", "table", entries)?;
        gauges(&mut encoder, "weft_table_capacity", "Entries that a table has room for", "table", room)?;
        let of_families = |value: fn(&Addresses) -> u64| {
            status.addresses.iter().map(move |range| (range.family.as_str(), value(range)))
        };
        let (used, all) = (of_families(|range| range.used), of_families(|range| range.capacity));
        gauges(&mut encoder, "weft_addresses_used", "Pod addresses of the node in use", "family", used)?;
        gauges(&mut encoder, "weft_addresses_capacity", "Pod addresses that the node has", "family", all)?;
        gauge(
            &mut encoder,
            "weft_flows_per_pod_limit",
            "Entries of FLOWS that the flows of one pod may have; 0: any number",
            u64::from(status.flows_per_pod),
        )?;
        let rows = self.0.in_force.borrow().strays;
        let help = "What nobody owned any more, found and set right while the agent ran";
        let mut leaks = encoder.encode_descriptor("weft_leaks_freed", help, None, MetricType::Counter)?;
        for (kind, count) in self.0.leaks.counts().into_iter().chain([("row", rows)]) {
            ConstCounter::new(count).encode(leaks.encode_family(&[("kind", kind)])?)?;
        }
        match self.0.started.get() {
            Some(started) => {
                packets(&mut encoder, &started.counters)?;
                kept(&mut encoder, &started.counters)
            }
            None => Ok(()),
        }
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)
}

/// A gauge with one label, by its values.
fn gauges<'a>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), std::fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (of, value) in values {
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(family.encode_family(&[(label, of)])?)?;
    }
    Ok(())
}

/// Packets and bytes that passed, by hook, and those that did not, by hook and reason: a reason that never was is left out.
fn packets(encoder: &mut DescriptorEncoder, counters: &RawMap) -> Result<(), std::fmt::Error> {
    let passed: Vec<_> = Hook::ALL.iter().map(|hook| (*hook, None, read(counters, 0, *hook))).collect();
    let both = |reason: &DropReason| {
        let reason = *reason;
        Hook::ALL.iter().map(move |hook| (*hook, Some(reason), read(counters, reason as u8, *hook)))
    };
    let dropped: Vec<_> = DropReason::ALL.iter().flat_map(both).filter(|(_, _, row)| row.packets > 0).collect();
    let packets: fn(&Counter) -> u64 = |row| row.packets;
    let bytes: fn(&Counter) -> u64 = |row| row.bytes;
    for (name, help, rows, value) in [
        ("weft_packets", "Packets that passed a hook", &passed, packets),
        ("weft_bytes", "Bytes of packets that passed a hook", &passed, bytes),
        ("weft_dropped_packets", "Packets that a hook dropped", &dropped, packets),
        ("weft_dropped_bytes", "Bytes of packets that a hook dropped", &dropped, bytes),
    ] {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (hook, reason, row) in rows {
            let mut labels = vec![("hook", hook.name())];
            labels.extend(reason.map(|reason| ("reason", reason.label())));
            ConstCounter::new(value(row)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Packets of flows that stay where others may displace them, by reason.
fn kept(encoder: &mut DescriptorEncoder, counters: &RawMap) -> Result<(), std::fmt::Error> {
    let (name, help) =
        ("weft_kept_half_open_packets", "Packets of flows that have proven themselves and stay half-open");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for kept in Kept::ALL {
        let packets: u64 = Hook::ALL.iter().map(|hook| read(counters, kept.counted(), *hook).packets).sum();
        ConstCounter::new(packets).encode(family.encode_family(&[("reason", kept.label())])?)?;
    }
    Ok(())
}

/// The sum over all CPUs.
fn read(counters: &RawMap, reason: u8, hook: Hook) -> Counter {
    let mut sum = Counter::default();
    debug_assert_eq!(COUNTERS.value, size_of::<Counter>());
    if let Ok(Some(row)) = counters.get(counter(reason, hook).as_bytes()) {
        for cpu in row.chunks_exact(size_of::<Counter>()) {
            if let Ok(cpu) = Counter::read_from_bytes(cpu) {
                sum.packets += cpu.packets;
                sum.bytes += cpu.bytes;
            }
        }
    }
    sum
}
