//! `/metrics`: everything is read at the moment of the scrape, nothing is counted twice.
use std::sync::Arc;

use abi::{
    DropReason,
    event::{Counter, Hook, counter},
    map::COUNTERS,
};
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
        let used = status.addresses_used;
        gauge(&mut encoder, "weft_addresses_used", "Addresses of the node's range in use", u64::from(used))?;
        gauge(&mut encoder, "weft_addresses", "Addresses of the node's range", u64::from(status.addresses_total))?;
        let help = "Rounds of compile, diff and apply";
        let mut rounds = encoder.encode_descriptor("weft_agent_rounds", help, None, MetricType::Counter)?;
        ConstCounter::new(status.rounds).encode(rounds.encode_family(&[("result", "applied")])?)?;
        for (name, help, max) in
            [("weft_table_rows", "Rows of a table", false), ("weft_table_rows_max", "Rows that fit", true)]
        {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for table in &status.tables {
                let value = if max { table.max } else { table.used };
                let labels = [("table", table.name.as_str())];
                ConstGauge::new(i64::from(value)).encode(family.encode_family(&labels)?)?;
            }
        }
        match self.0.started.get() {
            Some(started) => packets(&mut encoder, &started.counters),
            None => Ok(()),
        }
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)
}

fn packets(encoder: &mut DescriptorEncoder, counters: &RawMap) -> Result<(), std::fmt::Error> {
    let mut passed =
        encoder.encode_descriptor("weft_packets", "Packets that passed a hook", None, MetricType::Counter)?;
    for hook in Hook::ALL {
        let row = read(counters, 0, hook);
        ConstCounter::new(row.packets).encode(passed.encode_family(&[("hook", hook.name())])?)?;
    }
    let help = "Packets that a hook dropped";
    let mut dropped = encoder.encode_descriptor("weft_dropped_packets", help, None, MetricType::Counter)?;
    for reason in DropReason::ALL {
        for hook in Hook::ALL {
            let row = read(counters, *reason as u8, hook);
            if row.packets > 0 {
                let labels = [("hook", hook.name()), ("reason", reason.label())];
                ConstCounter::new(row.packets).encode(dropped.encode_family(&labels)?)?;
            }
        }
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
