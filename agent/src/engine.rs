//! The one loop: a snapshot, compiled, compared with what the kernel has, applied.
//!
//! Level-triggered: whatever changes only wakes it, and it takes the state as it is then. It starts when every watch has
//! synced, so nothing is deleted on half the truth. What it did is published for those who wait (CNI ADD) and for those
//! who ask (`weft status`).
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

use crate::{
    apply::{self, MapStore, StoreError},
    compile::{Compiled, Memo, compile_again},
    diff::diff,
    slots::Slots,
    snapshot::{Attachment, Snapshot},
    tables::{Table, Tables},
};

/// Changes come in bursts: rounds begin at least this far apart, and each serves all that has come. The first change after
/// a quiet time waits for nothing, and neither does a new interface: its CNI ADD waits for the round.
const GATHER: Duration = Duration::from_millis(10);
/// The same for new interfaces: many at once share a round, one after another never wait.
const GATHER_INTERFACES: Duration = Duration::from_millis(2);
/// After a failed round.
const RETRY: Duration = Duration::from_millis(500);

/// The state that rounds look at, and the bell that wakes the loop.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<Snapshot>,
    bell: Notify,
    /// Somebody wants the kernel's rows read anew.
    reread: AtomicBool,
    /// Somebody waits for the round.
    at_once: Notify,
}

impl Inbox {
    /// Changes the state and wakes the loop.
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.state.lock().expect("no holder panics"));
        self.bell.notify_one();
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.lock().expect("no holder panics").clone()
    }

    /// Has the next round, which is at once, compare with what the kernel has and not with what was written there.
    pub fn reread(&self) {
        self.reread.store(true, Relaxed);
        self.bell.notify_one();
    }

    /// Adds an interface of a pod of this node.
    pub fn attach(&self, attachment: Attachment) {
        self.change(|state| {
            let list = Arc::make_mut(&mut state.attachments);
            list.retain(|a| a.container_id != attachment.container_id || a.ifname != attachment.ifname);
            list.push(attachment);
            list.sort_by(|a, b| (&a.container_id, &a.ifname).cmp(&(&b.container_id, &b.ifname)));
        });
        self.at_once.notify_one();
    }

    /// Removes an interface.
    pub fn detach(&self, container_id: &str, ifname: &str) {
        self.change(|state| {
            let list = Arc::make_mut(&mut state.attachments);
            list.retain(|a| *a.container_id != *container_id || *a.ifname != *ifname);
        });
    }
}

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Rounds that were applied in full.
    pub rounds: u64,
    /// Time that the last one took.
    pub took: Duration,
    /// Steps of the last one.
    pub ops: usize,
    /// What was compiled.
    pub compiled: Arc<Compiled>,
    /// The kernel's rows.
    pub tables: Arc<Tables>,
    /// Rows that were not as written, over all rounds: somebody else's, or taken away.
    pub strays: u64,
    /// Why the last round failed; empty if it did not.
    pub fault: String,
}

impl InForce {
    /// True if the policy of this interface is in force.
    pub fn is_ready(&self, container_id: &str, ifname: &str) -> bool {
        self.rounds > 0 && self.compiled.ready.contains(&(container_id.into(), ifname.into()))
    }
}

/// Runs rounds for ever. `have` is what the store holds.
pub async fn run<S>(inbox: Arc<Inbox>, mut store: S, mut have: Tables, published: watch::Sender<InForce>)
where
    S: MapStore + Send + 'static,
{
    let mut memo = Memo::default();
    loop {
        let begun = tokio::time::Instant::now();
        let snapshot = inbox.snapshot();
        let reread = inbox.reread.swap(false, Relaxed);
        let round = tokio::task::spawn_blocking(move || {
            let strays = if reread { correct(&store, &mut have) } else { 0 };
            let (compiled, result) = round(&snapshot, &mut store, &mut have, &mut memo);
            (store, have, memo, strays, compiled, result)
        });
        let Ok((back, rows, noted, strays, compiled, result)) = round.await else {
            tracing::error!("a round of compile, diff and apply panicked: the tables stay as they are");
            return;
        };
        (store, have, memo) = (back, rows, noted);
        let failed = result.is_err();
        publish(&published, &have, compiled, result);
        if strays > 0 {
            published.send_modify(|state| state.strays += strays);
        }
        if failed {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        inbox.bell.notified().await;
        tokio::select! {
            () = tokio::time::sleep_until(begun + GATHER) => {}
            () = inbox.at_once.notified() => tokio::time::sleep_until(begun + GATHER_INTERFACES).await,
        }
    }
}

/// What the kernel has instead of what was written there: how many rows differ.
fn correct(store: &impl MapStore, have: &mut Tables) -> u64 {
    let mut strays = 0;
    for table in Table::ALL {
        match apply::read_one(store, *table) {
            Ok(rows) => {
                let differ = have.correct(*table, rows);
                if differ > 0 {
                    tracing::warn!(
                        table = table.spec().name,
                        rows = differ,
                        "rows are not as they were written; set right"
                    );
                }
                strays += differ as u64;
            }
            Err(error) => tracing::warn!(error = %crate::chain(&error), "a table could not be looked through"),
        }
    }
    strays
}

type Outcome = Result<(usize, Duration), StoreError>;

fn round(snapshot: &Snapshot, store: &mut impl MapStore, have: &mut Tables, memo: &mut Memo) -> (Compiled, Outcome) {
    let start = Instant::now();
    let compiled = compile_again(snapshot, &Slots::read(have), memo);
    let ops = diff(have, &compiled.tables);
    let result = apply::apply(store, have, &ops);
    (compiled, result.map(|()| (ops.len(), start.elapsed())))
}

fn publish(published: &watch::Sender<InForce>, have: &Tables, compiled: Compiled, result: Outcome) {
    published.send_modify(|state| match result {
        Ok((ops, took)) => {
            tracing::debug!(ops, ?took, "round");
            let (compiled, tables) = (Arc::new(compiled), Arc::new(have.clone()));
            *state = InForce {
                rounds: state.rounds + 1,
                took,
                ops,
                compiled,
                tables,
                fault: String::new(),
                strays: state.strays,
            };
        }
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "the tables could not be written in full; trying again");
            state.fault = crate::chain(&error);
        }
    });
}
