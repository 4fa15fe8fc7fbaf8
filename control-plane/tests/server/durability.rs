//! What was acknowledged survives a `kill -9` of the server, at any point of a write load.
//!
//! The server to be killed is this test program again, told by the environment to serve instead of testing. Clients
//! write and watch all the time; when the server dies they find its successor and go on. What each of them was told is
//! held against what the successor knows. `WEFT_SEED` repeats a run's choices.
mod history;
mod writer;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control_plane::pki::Authority;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::{Client, args};
use history::Watcher;
use writer::Writer;

const PLACE: &str = "WEFT_TEST_SERVE_IN";
const SERVES: &str = "serves on ";
const KILLS: u32 = 200;
/// Stores that are tried beside each other: a start waits mostly for the disk.
const LANES: u32 = 4;
const WRITERS: u32 = 3;

/// Not a test of its own: the body of the child process.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(directory) = std::env::var(PLACE) else { return };
    let running = control_plane::server::Running::start(&args(Path::new(&directory))).await.expect("a server");
    println!("\n{SERVES}{}", running.addresses[0]);
    std::future::pending::<()>().await;
}

/// Dies with its guard.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already, when the test has failed.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn spawn(directory: &Path) -> Server {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["durability::child", "--exact", "--nocapture"]).env(PLACE, directory);
    Server(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child process"))
}

async fn serve(directory: &Path) -> (Server, Client) {
    let mut server = spawn(directory);
    let output = BufReader::new(server.0.stdout.take().expect("it is piped"));
    let address = tokio::task::spawn_blocking(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix(SERVES)?.parse().ok()).next().expect("the child serves")
    });
    let address = address.await.expect("an address");
    let authority = Authority::open(directory).expect("the authority");
    let pair = authority.client("admin", &["system:masters".to_owned()]).expect("a certificate");
    (server, Client::new(address, &authority.certificate, Some((&pair.certificate, &pair.key))))
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_two_hundred_kills() {
    let seed: u64 =
        std::env::var("WEFT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    eprintln!("WEFT_SEED={seed}");
    let lanes = (0..LANES).map(|lane| tokio::spawn(lane_of(StdRng::seed_from_u64(seed ^ u64::from(lane)))));
    let mut writes = 0;
    for lane in futures::future::join_all(lanes).await {
        writes += lane.expect("the lane holds");
    }
    eprintln!("{KILLS} kills, {writes} acknowledged writes, none lost");
    assert!(writes > u64::from(KILLS), "only {writes} writes were acknowledged: this was no load");
}

/// One store, its clients, and a quarter of the kills; how many writes were acknowledged.
async fn lane_of(mut random: StdRng) -> u64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|number| Writer::new(number, StdRng::seed_from_u64(random.random()))).collect();
    let mut watchers = Watcher::all();
    let mut start = None;
    for _ in 0..KILLS / LANES {
        if random.random_ratio(1, 5) {
            // One more that dies while it starts, from the very first time on.
            let mut stillborn = spawn(directory.path());
            tokio::time::sleep(Duration::from_micros(random.random_range(0..80_000))).await;
            stillborn.0.kill().expect("it lived");
        }
        let (mut server, client) = serve(directory.path()).await;
        check(&client, &mut writers, &mut watchers, &mut start).await;
        let load = writers.drain(..).map(|writer| tokio::spawn(writer.run(client.clone()))).collect::<Vec<_>>();
        let watch = watchers.drain(..).map(|watcher| tokio::spawn(watcher.run(client.clone()))).collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_micros(random.random_range(200..120_000))).await;
        server.0.kill().expect("it lived");
        for writer in load {
            writers.push(writer.await.expect("a writer goes on"));
        }
        for watcher in watch {
            watchers.push(watcher.await.expect("a watcher goes on"));
        }
    }
    let (_server, client) = serve(directory.path()).await;
    check(&client, &mut writers, &mut watchers, &mut start).await;
    writers.iter().map(|writer| writer.acknowledged.len() as u64).sum()
}

/// The successor knows what its predecessor told anybody, and nobody sees a step back.
async fn check(client: &Client, writers: &mut [Writer], watchers: &mut [Watcher], start: &mut Option<u64>) {
    let seen = watchers.iter().map(|watcher| watcher.seen);
    let seen = seen.chain(writers.iter().map(Writer::seen)).max().unwrap_or(0);
    let newest = history::list(client, &format!("resourceVersion={seen}")).await;
    assert!(newest.revision >= seen, "a list at {} after {seen} was seen", newest.revision);
    let start = *start.get_or_insert(newest.revision);
    for watcher in watchers.iter_mut() {
        watcher.begin_at(start);
        watcher.catch_up(client, newest.revision).await;
        watcher.holds(&newest);
    }
    for writer in writers.iter_mut() {
        writer.settle(&newest.objects);
        for watcher in watchers.iter() {
            watcher.tells(&writer.acknowledged);
        }
    }
    let at = watchers[0].some_revision().filter(|&at| at > start);
    if let Some(at) = at {
        let then = history::list(client, &format!("resourceVersion={at}&resourceVersionMatch=Exact")).await;
        assert_eq!(then.revision, at);
        assert_eq!(then.objects, watchers[0].state_at(at), "the state at {at}");
    }
}
