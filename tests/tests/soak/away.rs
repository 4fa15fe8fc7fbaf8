//! A node without its agent: 5,000 new connections and 5,000 queries a second, each from a port of its own, to a pod by a
//! cluster address. Nobody sweeps the tables: they fill, and what expired must make way by itself.
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use abi::DropReason;

use crate::{
    exchange::within,
    lab::{Attach, Lab, Setup},
    size::{self, Figures},
};

/// Of each kind, in a second.
const RATE: u64 = 5_000;
/// Threads that ask, of each kind.
const ASKERS: u64 = 2;
/// What takes so long was lost on the way.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that takes so long had its first packet sent twice.
const RESENT: Duration = Duration::from_millis(900);
/// A run that uses every port several times.
const LONG: Duration = Duration::from_secs(60);
const SERVER: &str = "10.244.1.3:8080";
/// A Service in front of it, for TCP and UDP.
const SERVICE: &str = "10.96.0.10:80";

#[derive(Default)]
struct Tally {
    done: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
    /// Microseconds of the slowest.
    longest: AtomicU64,
    /// What was lost, and when.
    lost: Mutex<Vec<String>>,
}

pub(crate) fn run() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: this needs network namespaces and BPF programs, which need root");
        return;
    }
    let time = Duration::from_secs(size::number("WEFT_SOAK_AWAY_SECONDS", 6));
    let [flows, half_open] = size::tables();
    let lab = Lab::start(Setup { flows, half_open, ..Setup::plain(Attach::Tcx) });
    for namespace in ["pod-a", "pod-b", "pod-c"] {
        within(namespace, move || ports(time)).join().unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let servers = serve(&stop);
    let (connections, queries) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
    let mut askers = Vec::new();
    for number in 0..ASKERS {
        // Half from beside the server, half over the overlay.
        let namespace = if number % 2 == 0 { "pod-a" } else { "pod-c" };
        let (tcp, udp) = (connections.clone(), queries.clone());
        askers.push(within(namespace, move || paced(time, &tcp, connect)));
        askers.push(within(namespace, move || paced(time, &udp, query)));
    }
    let took = Instant::now();
    askers.into_iter().for_each(|asker| asker.join().unwrap());
    let took = took.elapsed();
    stop.store(true, Relaxed);
    servers.into_iter().for_each(|server| server.join().unwrap());
    report(&lab, &[("connections", &connections), ("queries", &queries)], took);
}

fn report(lab: &Lab, tallies: &[(&str, &Tally)], took: Duration) {
    let mut figures = Figures::new("away");
    let mut lost = Vec::new();
    for (name, tally) in tallies {
        let (done, failed, slow) = (tally.done.load(Relaxed), tally.failed.load(Relaxed), tally.slow.load(Relaxed));
        let rate = done as f64 / took.as_secs_f64();
        figures.add(&format!("{name} in {:.0} s", took.as_secs_f64()), format!("{done}, {rate:.0} a second"));
        figures.add(&format!("{name} failed, sent twice, slowest"), {
            format!("{failed}, {slow}, {:.1} ms", tally.longest.load(Relaxed) as f64 / 1e3)
        });
        if failed + slow > 0 || done == 0 {
            let which = tally.lost.lock().unwrap().join("\n");
            lost.push(format!("{name}: {done} done, {failed} failed, {slow} sent twice\n{which}"));
        }
    }
    // What pods say to their link alone (router solicitations, group reports) is nobody's on any day.
    let drops = lab.drops();
    let drops: Vec<&str> = drops.lines().filter(|line| !line.ends_with(DropReason::LinkChatter.label())).collect();
    figures.add("reasons of packets dropped by the programs", drops.len());
    figures.add("rows of FLOWS and HALFOPEN at the end", size::full(lab));
    figures.keep();
    assert!(lost.is_empty() && drops.is_empty(), "{}\n{drops:?}", lost.join("\n"));
}

/// A machine that asks so much uses its ports again at once; a short run has fewer of them, so that it comes to that.
fn ports(time: Duration) {
    let range = if time < LONG { "20000 29999" } else { "1024 65535" };
    for (key, value) in [("ip_local_port_range", range), ("tcp_tw_reuse", "1")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).unwrap();
    }
}

/// Two threads that accept and one that echoes.
fn serve(stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let listener = within("pod-b", || TcpListener::bind(SERVER).unwrap()).join().unwrap();
    listener.set_nonblocking(true).unwrap();
    let socket = within("pod-b", || UdpSocket::bind(SERVER).unwrap()).join().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut servers: Vec<JoinHandle<()>> = (0..2)
        .map(|_| {
            let (listener, stop) = (listener.try_clone().unwrap(), stop.clone());
            thread::spawn(move || accept(&listener, &stop))
        })
        .collect();
    let stop = stop.clone();
    servers.push(thread::spawn(move || {
        let mut buffer = [0; 64];
        while !stop.load(Relaxed) {
            if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], peer);
            }
        }
    }));
    servers
}

fn accept(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_micros(200));
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let mut byte = [0];
        // What breaks here is counted by the client. The client closes first.
        let _ =
            stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).and_then(|()| stream.read(&mut byte));
    }
}

/// Asks at the rate; a stall is made up for.
fn paced(time: Duration, tally: &Tally, ask: fn(SocketAddr) -> std::io::Result<()>) {
    let to: SocketAddr = SERVICE.parse().unwrap();
    let begun = Instant::now();
    let mut asked = 0;
    while begun.elapsed() < time {
        let due = begun.elapsed().as_micros() as u64 * RATE / ASKERS / 1_000_000;
        while asked < due {
            asked += 1;
            let start = Instant::now();
            let result = ask(to);
            let took = start.elapsed();
            tally.longest.fetch_max(took.as_micros() as u64, Relaxed);
            if result.is_err() || took >= RESENT {
                tally.lost.lock().unwrap().push(format!("{:?}: {result:?} after {took:?}", begun.elapsed()));
            }
            match result {
                Err(_) => tally.failed.fetch_add(1, Relaxed),
                Ok(()) => {
                    tally.slow.fetch_add(u64::from(took >= RESENT), Relaxed);
                    tally.done.fetch_add(1, Relaxed)
                }
            };
            if begun.elapsed() >= time {
                return;
            }
        }
        thread::sleep(Duration::from_micros(500));
    }
}

/// A connection, a byte there and back, and its end.
fn connect(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}

/// A datagram there and back, as DNS asks.
fn query(to: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&[7; 40])?;
    socket.recv(&mut [0; 64]).map(|_| ())
}
