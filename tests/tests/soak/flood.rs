//! A SYN flood by raw frames: from a pod against a pod beside it, and from 100 forged machines against a node port. The
//! connections that go on meanwhile are to the same pod, from another node and through the same Service; so are those that
//! begin meanwhile.
use std::{
    net::{IpAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use abi::config::GATEWAY_MAC;
use datapath::{parse::TCP, sim::frame::Make};
use probe::sequence::{self, Outcome, Plan};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};

use crate::{
    bench::{SYN, tuple},
    exchange::within,
    lab::{Attach, Lab, Setup},
    size::{self, Figures},
    wire::{self, Flood, LENGTH, Poured},
    world,
};

/// Connections that go on, half of them each way.
const CONNECTIONS: u32 = 500;
/// SYN packets a second, if the machine can: a quarter more than must be.
const RATE: u64 = 250_000;
/// Who begins meanwhile waits as long as for a packet that is sent four times.
const PATIENCE: Duration = Duration::from_secs(16);
/// A connection that takes so long had its first packet sent twice.
const RESENT: Duration = Duration::from_millis(900);
/// Forged machines outside: 172.31.0.128 and up.
const FORGED: u32 = 100;

pub(crate) fn run() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a flood needs network namespaces and BPF programs, which need root");
        return;
    }
    let time = Duration::from_secs(size::number("WEFT_SOAK_FLOOD_SECONDS", 3));
    let [flows, half_open] = size::tables();
    let lab = Lab::start(Setup { flows, half_open, ..Setup::plain(Attach::Tcx) });
    deafen();
    let mut figures = Figures::new("flood");
    let echo = within("pod-b", || serve("10.244.1.3:8080"));
    let talks = [talk("pod-c", "10.244.1.3", 8080), talk("outside", "172.31.0.11", 30_080)];
    // All connections are established before the first forged packet.
    thread::sleep(Duration::from_secs(2));
    let failed = stand(&lab, &mut figures, ("a pod", world::A, pod_frame()), time)
        + stand(&lab, &mut figures, ("a Service (node port)", world::NIC, service_frame()), time);
    thread::sleep(Duration::from_millis(500));
    let outcomes: Vec<Outcome> = talks.into_iter().map(Talk::end).collect();
    let answered: u64 = outcomes.iter().map(|outcome| outcome.answered).sum();
    let longest = outcomes.iter().map(|outcome| outcome.longest_ms).max().unwrap();
    let broken: Vec<&String> = outcomes.iter().flat_map(|outcome| &outcome.broken).collect();
    figures.add("established connections, broken", format!("{CONNECTIONS}, {}", broken.len()));
    figures.add("messages answered on them, slowest", format!("{answered}, {longest} ms"));
    figures.keep();
    println!("dropped:\n{}", lab.drops());
    assert!(broken.is_empty(), "{broken:?}\n{}", lab.drops());
    assert!(answered >= u64::from(CONNECTIONS), "{answered} messages were answered");
    assert_eq!(failed, 0, "connections that began during the flood\n{}", lab.drops());
    drop(echo);
}

/// Connections one after the other from outside by the node port, while others flood.
struct Newcomers {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Counted>,
}

#[derive(Default)]
struct Counted {
    done: u64,
    failed: u64,
    twice: u64,
    slowest: Duration,
}

impl Newcomers {
    fn start() -> Newcomers {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let running = within("outside", move || {
            let (mut counted, to) = (Counted::default(), "172.31.0.11:30080".parse().unwrap());
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                match TcpStream::connect_timeout(&to, PATIENCE) {
                    Ok(_) => counted.done += 1,
                    Err(_) => counted.failed += 1,
                }
                counted.twice += u64::from(begun.elapsed() >= RESENT);
                counted.slowest = counted.slowest.max(begun.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            counted
        });
        Newcomers { stop, running }
    }

    fn end(self) -> Counted {
        self.stop.store(true, Relaxed);
        self.running.join().unwrap()
    }
}

/// One flood by a device, and how many connections could not begin meanwhile.
fn stand(
    lab: &Lab,
    figures: &mut Figures,
    (name, ifindex, frame): (&str, u32, ([u8; LENGTH], u32)),
    time: Duration,
) -> u64 {
    let (newcomers, cookies) = (Newcomers::start(), cookies());
    let Poured { sent, took, busy } = flood(ifindex, frame, time);
    let answered = self::cookies() - cookies;
    let Counted { done, failed, twice, slowest } = newcomers.end();
    let (seconds, cost) = (took.as_secs_f64(), busy.as_secs_f64() * 1e6 / sent as f64);
    figures.add(
        &format!("SYN packets against {name}, processor time of each with all that it caused"),
        format!("{sent} in {seconds:.1} s, {:.0} a second, {cost:.1} us", sent as f64 / seconds),
    );
    figures.add("of them answered by the pod with a SYN cookie", answered);
    figures.add(
        "connections that began meanwhile by the Service, failed, sent twice, slowest",
        format!("{done}, {failed}, {twice}, {} ms", slowest.as_millis()),
    );
    figures.add("rows of FLOWS and HALFOPEN then", size::full(lab));
    assert!(
        answered > sent / 2,
        "{answered} of {sent} SYN packets were answered: a flood that does not arrive is none"
    );
    failed
}

/// SYN cookies that the pod under attack has sent: what Linux does by default once a listener's queue is full.
fn cookies() -> u64 {
    let text = within("pod-b", || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap()).join().unwrap();
    // Two lines: names, then their values.
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "SyncookiesSent").unwrap().1.parse().unwrap()
}

/// Nobody refuses what comes back to the forged senders, and it costs no more than it must: the bridge drops it, since it
/// would go back to where it came from, and the pod that floods has no way to the pod that answers.
fn deafen() {
    ip("-n pod-a route add blackhole 10.244.1.3/32");
    within("pod-a", || std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap()).join().unwrap();
    let node = link_address("node-1").map(|byte| format!("{byte:02x}")).join(":");
    for number in 0..FORGED {
        ip(&format!("-n node-1 neigh add 172.31.0.{} lladdr {node} dev eth0 nud permanent", 128 + number));
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

fn serve(at: &'static str) {
    on_runtime(async move {
        sequence::echo(TcpListener::bind(at).await.unwrap(), UdpSocket::bind(at).await.unwrap()).await;
    });
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Connections that exchange numbers until they are told to stop.
struct Talk {
    stop: watch::Sender<bool>,
    running: JoinHandle<Outcome>,
}

fn talk(namespace: &'static str, host: &str, port: u16) -> Talk {
    let (stop, stopped) = watch::channel(false);
    let host: IpAddr = host.parse().unwrap();
    let plan = Plan { host, udp: port, tcp: port, per_second: 10, connections: CONNECTIONS / 2 };
    let running = within(namespace, move || on_runtime(sequence::run(plan, stopped)).unwrap());
    Talk { stop, running }
}

impl Talk {
    fn end(self) -> Outcome {
        self.stop.send_replace(true);
        self.running.join().unwrap()
    }
}

/// By two threads, each with half of the rate and on a processor of its own.
fn flood(ifindex: u32, (frame, sources): ([u8; LENGTH], u32), time: Duration) -> Poured {
    let half = |processor| Flood { ifindex, frame, sources, rate: RATE / 2, time, processor };
    let halves = wire::processors().into_iter().cycle().take(2).map(half);
    let running: Vec<JoinHandle<Poured>> = halves.map(|half| within("node-1", move || wire::pour(&half))).collect();
    let poured = running.into_iter().map(|thread| thread.join().unwrap());
    poured
        .reduce(|one, other| Poured {
            sent: one.sent + other.sent,
            took: one.took.max(other.took),
            busy: one.busy + other.busy,
        })
        .unwrap()
}

fn frame(text: &str, link: [[u8; 6]; 2]) -> [u8; LENGTH] {
    let make = Make { tuple: tuple(text), proto: TCP, flags: SYN, ttl: 64, link, unsummed: false, extensions: &[] };
    let mut bytes = make.bytes();
    bytes.resize(LENGTH, 0);
    bytes.try_into().unwrap()
}

/// From pod A to pod B: the anti-spoofing leaves it its own address and any port.
fn pod_frame() -> ([u8; LENGTH], u32) {
    (frame("10.244.1.2:1 > 10.244.1.3:8080", [GATEWAY_MAC, world::mac(world::A)]), 1)
}

/// From forged machines outside to the node port, over the first node's own link address.
fn service_frame() -> ([u8; LENGTH], u32) {
    (frame("172.31.0.128:1 > 172.31.0.11:30080", [link_address("node-1"), link_address("outside")]), FORGED)
}

/// `eth0`'s in a namespace.
fn link_address(namespace: &str) -> [u8; 6] {
    let output = Command::new("ip").args(["-n", namespace, "-o", "link", "show", "eth0"]).output().expect("iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let word = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a link address");
    let bytes: Vec<u8> = word.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
