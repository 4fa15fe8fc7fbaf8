//! Our own drop counters, from each node's agent: they are pinned maps, so they go on over the agent's death.
use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};

use super::super::{
    caller::{self, Caller},
    fixture::Fixture,
};

/// Where an agent serves `/metrics`.
const METRICS: u16 = 9465;

/// Packets dropped, by node, hook and reason.
pub(super) type Drops = BTreeMap<String, u64>;

/// All nodes' counters.
pub(super) async fn read(fixture: &Fixture) -> anyhow::Result<Drops> {
    let mut drops = Drops::new();
    for node in &fixture.nodes {
        let text = get(node, "/metrics").await.with_context(|| format!("the counters of {}", node.name))?;
        for line in text.lines().filter_map(|line| line.strip_prefix("weft_dropped_packets_total")) {
            let (labels, count) = line.rsplit_once(' ').with_context(|| format!("the counter {line}"))?;
            drops.insert(format!("{} {labels}", node.name), count.parse()?);
        }
    }
    Ok(drops)
}

/// What rose.
pub(super) fn changes(before: &Drops, now: &Drops) -> Vec<String> {
    let rose = now.iter().filter_map(|(counter, count)| {
        let more = count - before.get(counter).copied().unwrap_or(0).min(*count);
        (more > 0).then(|| format!("{counter}: {more} more"))
    });
    rose.collect()
}

/// Waits until the node's agent says that it is ready.
pub(super) async fn ready(node: &Caller, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while let Err(error) = get(node, "/readyz").await {
        if Instant::now() > deadline {
            bail!("the agent of {} is not ready: {error:#}", node.name);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn get(node: &Caller, path: &str) -> anyhow::Result<String> {
    caller::get(node, METRICS, path).await
}
