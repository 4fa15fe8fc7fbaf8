//! Two clients of the API across a fault: one writes and remembers what was acknowledged, one watches and remembers what it
//! was told. Afterwards the watch must have told each acknowledged write once, in rising revisions, and a list must have all.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

/// Between two writes.
const PERIOD: Duration = Duration::from_millis(25);
/// How long the watch may need to catch up at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The server ends a watch after so long, and the client begins again where it was.
const WATCH_SECONDS: u32 = 60;

/// Both clients.
pub(super) struct Clients {
    stop: watch::Sender<bool>,
    writer: JoinHandle<Written>,
    watcher: JoinHandle<()>,
    told: Arc<Mutex<Told>>,
    configs: Api<ConfigMap>,
}

/// What was acknowledged: name → revision, and the longest time without an acknowledgement.
#[derive(Default)]
struct Written {
    acknowledged: BTreeMap<String, u64>,
    longest: Duration,
}

#[derive(Default)]
struct Told {
    added: BTreeMap<String, u64>,
    newest: u64,
    resumed: u32,
    wrong: Vec<String>,
}

/// What came of it.
pub(super) struct Verdict {
    acknowledged: usize,
    longest: Duration,
    resumed: u32,
    broken: Vec<String>,
}

impl Clients {
    /// Starts both.
    pub(super) fn start(client: &Client, namespace: &str) -> Clients {
        let configs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let (stop, stopped) = watch::channel(false);
        let told = Arc::new(Mutex::new(Told::default()));

        let writer = tokio::spawn(write(configs.clone(), format!("write-{}", nonce()), stopped));
        let watcher = tokio::spawn(follow(configs.clone(), Arc::clone(&told)));
        Clients { stop, writer, watcher, told, configs }
    }

    /// Ends both and compares.
    pub(super) async fn stop(self) -> anyhow::Result<Verdict> {
        self.stop.send_replace(true);
        let written = self.writer.await.context("the writer")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.told.lock().expect("no holder panics").has(&written) {
            sleep(Duration::from_millis(50)).await;
        }
        self.watcher.abort();
        let listed = self.configs.list(&ListParams::default()).await?;
        let listed: BTreeMap<String, u64> = listed.iter().filter_map(row).collect();
        let told = self.told.lock().expect("no holder panics");
        let mut broken = told.wrong.clone();
        for (name, revision) in &written.acknowledged {
            if listed.get(name) != Some(revision) {
                broken.push(format!("{name}: acknowledged at {revision}, listed at {:?}", listed.get(name)));
            }
            if told.added.get(name) != Some(revision) {
                broken.push(format!("{name}: acknowledged at {revision}, watched at {:?}", told.added.get(name)));
            }
        }
        let acknowledged = written.acknowledged.len();
        Ok(Verdict { acknowledged, longest: written.longest, resumed: told.resumed, broken })
    }
}

fn nonce() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn row(config: &ConfigMap) -> Option<(String, u64)> {
    Some((config.metadata.name.clone()?, config.metadata.resource_version.as_deref()?.parse().ok()?))
}

async fn write(configs: Api<ConfigMap>, mark: String, mut stopped: watch::Receiver<bool>) -> Written {
    let mut written = Written::default();
    let (mut number, mut last) = (0, Instant::now());
    while !*stopped.borrow_and_update() && stopped.has_changed().is_ok() {
        number += 1;
        let mut config = ConfigMap::default();
        config.metadata.name = Some(format!("{mark}-{number}"));
        // A refusal is no promise: the next write has a name of its own.
        if let Ok(made) = configs.create(&PostParams::default(), &config).await
            && let Some((name, revision)) = row(&made)
        {
            written.acknowledged.insert(name, revision);
            written.longest = written.longest.max(last.elapsed());
            last = Instant::now();
        }
        sleep(PERIOD).await;
    }
    written
}

/// Watches from the first revision that a list gives, and after each break from the last one seen.
async fn follow(configs: Api<ConfigMap>, told: Arc<Mutex<Told>>) {
    let mut from = loop {
        match configs.list(&ListParams::default()).await {
            Ok(list) => {
                // What was written before the list is known from it.
                let mut told = told.lock().expect("no holder panics");
                told.added.extend(list.iter().filter_map(row));
                break list.metadata.resource_version.unwrap_or_default();
            }
            Err(_) => sleep(PERIOD).await,
        }
    };
    loop {
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        if let Ok(stream) = configs.watch(&params, &from).await {
            let mut stream = stream.boxed();
            while let Some(Ok(event)) = stream.next().await {
                let mut told = told.lock().expect("no holder panics");
                told.note(event);
                if told.newest > 0 {
                    from = told.newest.to_string();
                }
            }
        }
        told.lock().expect("no holder panics").resumed += 1;
        sleep(PERIOD).await;
    }
}

impl Told {
    fn note(&mut self, event: WatchEvent<ConfigMap>) {
        let config = match event {
            WatchEvent::Added(config) => config,
            WatchEvent::Error(error) => return self.wrong.push(format!("the watch was refused: {error:?}")),
            WatchEvent::Modified(_) | WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => return,
        };
        let Some((name, revision)) = row(&config) else { return };
        if revision <= self.newest {
            self.wrong.push(format!("{name} came at revision {revision} after {}: a step back", self.newest));
        }
        self.newest = self.newest.max(revision);
        if self.added.insert(name.clone(), revision).is_some() {
            self.wrong.push(format!("{name} was told twice"));
        }
    }

    fn has(&self, written: &Written) -> bool {
        written.acknowledged.keys().all(|name| self.added.contains_key(name))
    }
}

impl Verdict {
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.clone()
    }

    /// One line for the table.
    pub(super) fn figures(&self) -> String {
        let longest = self.longest.as_secs_f64();
        format!("{} writes, {longest:.1} s without one, {} watches resumed", self.acknowledged, self.resumed)
    }
}
