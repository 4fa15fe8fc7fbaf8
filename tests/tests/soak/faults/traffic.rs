//! Steady traffic while things die: numbered datagrams and kept connections, all echoed, on several ways. The sender alone
//! knows what came back, so it knows when each thing that was lost was sent.
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use local_cluster::netns::Netns;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

/// Datagrams a second on each way.
const RATE: u64 = 100;
/// Connections on each way.
const CONNECTIONS: usize = 4;
/// Between two rounds over a way's connections.
const PERIOD: Duration = Duration::from_millis(50);
/// No answer on a connection for so long: it is broken. A link that was down for seconds is met by a doubled timer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A datagram that has not come back after this is lost.
const SETTLED: Duration = Duration::from_secs(2);
const BUFFER: usize = 8 << 20;

/// From where, to where.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// It goes over the nodes' links.
    pub(crate) crosses: bool,
    pub(crate) from: Netns,
    pub(crate) to: SocketAddr,
}

/// A time in which a link was down: what crosses it may be lost.
#[derive(Clone, Copy)]
pub(crate) struct Outage {
    pub(crate) from: Instant,
    /// The link is up again.
    pub(crate) up: Instant,
}

/// After a link is up again, until nothing is lost any more: the kernel tells a bridge of a carrier within a second, asks for
/// a neighbour once a second, and shares the machine.
const RECOVERY: Duration = Duration::from_secs(5);
/// What was sent so long before a link went may have been on its way there or back, on a busy machine.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// When each datagram was sent, and whether it came back.
#[derive(Default)]
struct Log(Vec<(Instant, bool)>);

struct Lane {
    name: &'static str,
    crosses: bool,
    log: Arc<Mutex<Log>>,
    /// Datagrams that were judged already.
    judged: usize,
}

pub(crate) struct Traffic {
    lanes: Vec<Lane>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Copies, to end who waits on them.
    streams: Vec<TcpStream>,
    broken: Arc<Mutex<Vec<String>>>,
    answered: Arc<AtomicU64>,
    slowest_ms: Arc<AtomicU64>,
    /// What full queues and buffers had refused before.
    refused: u64,
    pub(crate) totals: Totals,
}

/// What was judged so far.
#[derive(Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    /// While a link was down.
    pub(crate) lost_by_link: u64,
    /// The last that was lost after its link was up again.
    pub(crate) recovery: Duration,
    /// Counted by the kernel: a queue or a buffer was full.
    pub(crate) refused: u64,
}

impl Traffic {
    pub(crate) fn start(ways: Vec<Way>, refused: u64) -> Traffic {
        let mut traffic = Traffic {
            lanes: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
            streams: Vec::new(),
            broken: Arc::default(),
            answered: Arc::default(),
            slowest_ms: Arc::default(),
            refused,
            totals: Totals::default(),
        };
        for way in ways {
            let socket = way.from.run(move || datagrams(way.to)).unwrap().unwrap();
            let streams = way.from.run(|| connect(way.to)).unwrap();
            let streams = streams.unwrap_or_else(|error| panic!("{}: {error}", way.name));
            let log = Arc::new(Mutex::new(Log::default()));
            traffic.send(socket.try_clone().unwrap(), log.clone());
            traffic.receive(socket, log.clone());
            traffic.streams.extend(streams.iter().map(|stream| stream.try_clone().unwrap()));
            traffic.keep(way.name, streams);
            traffic.lanes.push(Lane { name: way.name, crosses: way.crosses, log, judged: 0 });
        }
        traffic
    }

    fn send(&mut self, socket: UdpSocket, log: Arc<Mutex<Log>>) {
        let stop = self.stop.clone();
        self.threads.push(thread::spawn(move || {
            let begun = Instant::now();
            let mut next = 0_u64;
            while !stop.load(Relaxed) {
                // What is due by now: a thread that the machine held up catches up.
                while next <= begun.elapsed().as_millis() as u64 * RATE / 1000 {
                    log.lock().unwrap().0.push((Instant::now(), false));
                    // An ICMP error is told by the next call; the datagram that it names is missing anyway.
                    if socket.send(&next.to_be_bytes()).is_err() {
                        let _ = socket.send(&next.to_be_bytes());
                    }
                    next += 1;
                }
                thread::sleep(Duration::from_millis(3));
            }
        }));
    }

    fn receive(&mut self, socket: UdpSocket, log: Arc<Mutex<Log>>) {
        let stop = self.stop.clone();
        self.threads.push(thread::spawn(move || {
            let mut bytes = [0; 16];
            while !stop.load(Relaxed) {
                if let Ok(8) = socket.recv(&mut bytes) {
                    let number = u64::from_be_bytes(bytes[..8].try_into().unwrap()) as usize;
                    log.lock().unwrap().0[number].1 = true;
                }
            }
        }));
    }

    fn keep(&mut self, way: &'static str, mut streams: Vec<TcpStream>) {
        let (stop, broken) = (self.stop.clone(), self.broken.clone());
        let (answered, slowest) = (self.answered.clone(), self.slowest_ms.clone());
        self.threads.push(thread::spawn(move || {
            while !stop.load(Relaxed) {
                streams.retain_mut(|stream| {
                    let begun = Instant::now();
                    let outcome = exchange(stream, answered.load(Relaxed));
                    match outcome {
                        Ok(()) => {
                            answered.fetch_add(1, Relaxed);
                            slowest.fetch_max(begun.elapsed().as_millis() as u64, Relaxed);
                        }
                        Err(ref error) => {
                            let port = stream.local_addr().map_or(0, |address| address.port());
                            broken.lock().unwrap().push(format!("{way}: the connection from port {port}: {error}"));
                        }
                    }
                    outcome.is_ok()
                });
                thread::sleep(PERIOD);
            }
        }));
    }

    /// Goes on with what an earlier one has counted.
    pub(crate) fn after(mut self, earlier: &Traffic) -> Traffic {
        let (answered, slowest) = earlier.exchanges();
        self.answered.fetch_add(answered, Relaxed);
        self.slowest_ms.fetch_max(slowest, Relaxed);
        self.totals = earlier.totals;
        self
    }

    /// What was lost or broken since the last time, but for what may be: datagrams over a link that was down, and those that
    /// the kernel's own counts explain.
    pub(crate) fn judge(&mut self, outages: &[Outage], refused: u64) -> Vec<String> {
        let mut wrong: Vec<String> = std::mem::take(&mut *self.broken.lock().unwrap());
        let mut lost = Vec::new();
        for lane in &mut self.lanes {
            let log = lane.log.lock().unwrap();
            let known = log.0.partition_point(|(sent, _)| sent.elapsed() > SETTLED);
            for (number, (sent, back)) in log.0[..known].iter().enumerate().skip(lane.judged) {
                self.totals.sent += 1;
                let excuse = |outage: &&Outage| (outage.from - UNDER_WAY..=outage.up + RECOVERY).contains(sent);
                // Of two that excuse it, the nearer one: the next may have begun before this one's time was over.
                let after = |outage: &Outage| sent.saturating_duration_since(outage.up);
                match (back, outages.iter().filter(excuse).map(after).min().filter(|_| lane.crosses)) {
                    (true, _) => {}
                    (false, Some(after)) => {
                        self.totals.lost_by_link += 1;
                        self.totals.recovery = self.totals.recovery.max(after);
                    }
                    (false, None) => {
                        lost.push(format!(
                            "{}: datagram {number}, {:.3} s ago",
                            lane.name,
                            sent.elapsed().as_secs_f64()
                        ));
                    }
                }
            }
            lane.judged = known;
        }
        let explained = refused.saturating_sub(self.refused);
        (self.refused, self.totals.refused) = (refused, self.totals.refused + explained);
        if lost.len() as u64 > explained {
            wrong.push(format!("{} datagrams are lost, {explained} of them in full buffers: {lost:#?}", lost.len()));
        }
        wrong
    }

    /// Messages answered on connections, and the slowest of them in milliseconds.
    pub(crate) fn exchanges(&self) -> (u64, u64) {
        (self.answered.load(Relaxed), self.slowest_ms.load(Relaxed))
    }

    pub(crate) fn connections(&self) -> usize {
        self.lanes.len() * CONNECTIONS
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.streams.iter().for_each(|stream| _ = stream.shutdown(Shutdown::Both));
        // A thread that panicked has said why.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn datagrams(to: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.connect(to)?;
    Ok(socket)
}

fn connect(to: SocketAddr) -> std::io::Result<Vec<TcpStream>> {
    let one = |_| {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    (0..CONNECTIONS).map(one).collect()
}

fn exchange(stream: &mut TcpStream, number: u64) -> std::io::Result<()> {
    let mut back = [0; 8];
    stream.write_all(&number.to_be_bytes())?;
    stream.read_exact(&mut back)?;
    let same = u64::from_be_bytes(back) == number;
    if same { Ok(()) } else { Err(std::io::Error::other("something else came back")) }
}
