//! The slow sweep for what nobody owns any more, while the agent runs.
//!
//! DEL frees what it is told of, GC what the runtime lists, the start what an agent's death left (`pods::leftovers`). A
//! sandbox that ends without any of these would keep its address until the next start, and a row that somebody else put
//! into a table would stay for ever. The sweep does what the start does, again and again: it looks at the ledger, devices,
//! pins and rows, and frees what is left over. It decides by what this machine shows alone; that a Pod is gone from the
//! API says nothing of its containers.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{Shared, pods::leftovers::Strays};

/// What the sweep has freed since the agent began.
#[derive(Debug, Default)]
pub struct Freed {
    /// Addresses of sandboxes that are gone.
    pub addresses: AtomicU64,
    /// Pods' devices that no sandbox has.
    pub devices: AtomicU64,
    /// Pins of devices that are gone.
    pub pins: AtomicU64,
    /// Interfaces that tables were compiled for, and that nobody has.
    pub interfaces: AtomicU64,
}

impl Freed {
    /// Kind and number, for the metrics.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("address", self.addresses.load(Relaxed)),
            ("device", self.devices.load(Relaxed)),
            ("pin", self.pins.load(Relaxed)),
            ("interface", self.interfaces.load(Relaxed)),
        ]
    }
}

/// Sweeps for ever; not at all if the flag says 0. What cannot be freed is tried again the next time.
pub async fn run(shared: Arc<Shared>) {
    let period = shared.args.leak_sweep_seconds;
    if period == 0 {
        return;
    }
    let mut strays = Strays::default();
    for round in 0_u64.. {
        tokio::time::sleep(pause(period, &shared.args.node_name, round)).await;
        let Some(started) = shared.started.get() else { continue };
        if let Err(error) = started.pods.sweep(&mut strays, &shared.leaks).await {
            tracing::warn!(error = crate::chain(&error), "what nobody owns could not be freed in full; trying again");
        }
        // Rows are the engine's: it reads the kernel's anew and sets right what differs.
        shared.inbox.reread();
    }
}

/// The period, up to a fifth more or less: nodes that began together do not sweep together.
fn pause(period: u64, node: &str, round: u64) -> Duration {
    let millis = period.saturating_mul(1_000);
    let spread = (millis / 5 * 2).max(1);
    let more = objects::content::hash(node, round) % spread;
    Duration::from_millis(millis - millis / 5 + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_by_node_and_round_and_keep_to_the_period() {
        let pauses = [("a", 0), ("a", 1), ("b", 0)].map(|(node, round)| pause(300, node, round));
        assert!(pauses.iter().all(|pause| (240..=360).contains(&pause.as_secs())), "{pauses:?}");
        assert!(pauses[0] != pauses[1] && pauses[0] != pauses[2], "{pauses:?}");
        assert!(pause(1, "a", 0) >= Duration::from_millis(800));
    }
}
