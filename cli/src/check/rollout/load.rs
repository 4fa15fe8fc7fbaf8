//! A steady load from outside: half of the requests on connections of their own, half on connections that are kept, as
//! browsers and proxies keep them. Open loop: the next request starts on time, whatever became of the last one.
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{ACCEPT, CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use local_cluster::netns::Netns;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::super::caller;

/// Requests a second, of both kinds together.
pub(super) const RATE: u32 = 200;
/// Connections that are kept.
const KEPT: u32 = 20;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The load ends by then, whatever happens to who should stop it.
const LONGEST: Duration = Duration::from_secs(180);

/// What the cluster goes through.
#[derive(Clone, Copy)]
pub(super) enum Phase {
    Shrinking = 1,
    Updating,
    After,
}

/// What came of the requests that began in one phase; the first phase is growing.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) tried: usize,
    pub(super) broken: Vec<String>,
    /// Who answered, of both tiers.
    pub(super) pods: BTreeSet<String>,
}

/// A running load.
pub(super) struct Load {
    tallies: Arc<Tallies>,
    stop: watch::Sender<bool>,
    running: JoinHandle<anyhow::Result<()>>,
}

#[derive(Default)]
struct Tallies {
    phase: AtomicUsize,
    of: Mutex<[Tally; 4]>,
}

impl Load {
    /// Starts it, on all nodes in turn.
    pub(super) fn start(netns: &Arc<Netns>, nodes: impl Iterator<Item = IpAddr>, port: u16) -> anyhow::Result<Load> {
        let targets: Vec<SocketAddr> = nodes.map(|node| SocketAddr::new(node, port)).collect();
        let tallies = Arc::new(Tallies::default());
        let (stop, stopped) = watch::channel(false);
        let netns = Arc::new(netns.try_clone()?);
        let shared = Arc::clone(&tallies);
        let running =
            tokio::spawn(async move { caller::inside(&netns, move || generate(targets, shared, stopped)).await });
        Ok(Load { tallies, stop, running })
    }

    /// Requests from now on count for this phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.tallies.phase.store(phase as usize, Ordering::Relaxed);
    }

    /// Ends it, once the last answers are there.
    pub(super) async fn stop(self) -> anyhow::Result<[Tally; 4]> {
        self.stop.send_replace(true);
        self.running.await.context("the load's thread")??;
        Ok(self.tallies.of.lock().expect("no holder panics").clone())
    }
}

async fn generate(targets: Vec<SocketAddr>, tallies: Arc<Tallies>, mut stopped: watch::Receiver<bool>) {
    let mut kept = JoinSet::new();
    for (number, target) in (0..KEPT).zip(targets.iter().copied().cycle()) {
        kept.spawn(keep(number, target, Arc::clone(&tallies), stopped.clone()));
    }
    let mut fresh = JoinSet::new();
    let mut ticks = interval_at(Instant::now(), Duration::from_secs(2) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + LONGEST;
    let mut targets = targets.iter().copied().cycle();
    while !*stopped.borrow_and_update() && Instant::now() < end {
        ticks.tick().await;
        let Some(target) = targets.next() else { break };
        let tallies = Arc::clone(&tallies);
        fresh.spawn(async move {
            let phase = tallies.phase.load(Ordering::Relaxed);
            tallies.record(phase, once(target).await.map_err(|why| format!("a new connection to {target}: {why}")));
        });
        while fresh.try_join_next().is_some() {}
    }
    fresh.join_all().await;
    kept.join_all().await;
}

/// One connection, kept as long as the server allows.
async fn keep(number: u32, target: SocketAddr, tallies: Arc<Tallies>, mut stopped: watch::Receiver<bool>) {
    let period = Duration::from_secs(1) * KEPT * 2 / RATE;
    let mut ticks = interval_at(Instant::now() + period * number / KEPT, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + LONGEST;
    let mut connection = None;
    while !*stopped.borrow_and_update() && Instant::now() < end {
        ticks.tick().await;
        let phase = tallies.phase.load(Ordering::Relaxed);
        let answer = again(&mut connection, target).await;
        tallies.record(phase, answer.map_err(|why| format!("a kept connection to {target}: {why}")));
    }
}

async fn once(target: SocketAddr) -> Result<Vec<String>, String> {
    again(&mut None, target).await
}

/// A request on the connection that is there, else on a new one. Only a server that said so may have closed it.
async fn again(kept: &mut Option<SendRequest<Empty<Bytes>>>, target: SocketAddr) -> Result<Vec<String>, String> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => within("connecting", connect(target)).await?,
    };
    let request = Request::get("/").header(HOST, target.to_string()).header(ACCEPT, "application/json");
    let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
    let response = within("the answer", connection.send_request(request)).await?;
    let status = response.status();
    let goes_on = response.headers().get(CONNECTION).is_none_or(|value| value != "close");
    let body = within("the answer's body", response.into_body().collect()).await?.to_bytes();
    if goes_on {
        *kept = Some(connection);
    }
    if status != StatusCode::OK {
        return Err(format!("status {status}"));
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|error| format!("its answer: {error}"))?;
    let pods = ["frontend", "backend"].map(|tier| answer[tier]["pod"].as_str().unwrap_or("a nameless pod").to_owned());
    Ok(pods.to_vec())
}

async fn connect(target: SocketAddr) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(target).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its end is told by the request that meets it.
    tokio::spawn(connection);
    Ok(sender)
}

async fn within<T, E: Into<anyhow::Error>>(what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(format!("{what}: {:#}", error.into())),
        Err(_) => Err(format!("{what}: nothing for {} s", PATIENCE.as_secs())),
    }
}

impl Tallies {
    fn record(&self, phase: usize, outcome: Result<Vec<String>, String>) {
        let mut tallies = self.of.lock().expect("no holder panics");
        let tally = &mut tallies[phase];
        tally.tried += 1;
        match outcome {
            Ok(pods) => tally.pods.extend(pods),
            Err(why) => tally.broken.push(why),
        }
    }
}
