//! A SYN flood by raw frames: from a pod against a pod beside it, and from 100 forged machines against a node port. The
//! connections that go on meanwhile are to the same pod, from another node and through the same Service.
use std::{
    net::IpAddr,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use abi::{config::GATEWAY_MAC, map};
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
    wire, world,
};

/// Connections that go on, half of them each way.
const CONNECTIONS: u32 = 500;
/// Different frames of a flood: more than the short form's tables have rows.
const FRAMES: u32 = 60_000;
/// Forged machines outside: 172.31.0.128 and up.
const FORGED: u32 = 100;

pub(crate) fn run() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a flood needs network namespaces and BPF programs, which need root");
        return;
    }
    let time = Duration::from_secs(size::number("WEFT_SOAK_FLOOD_SECONDS", 3));
    let lab = Lab::start(Setup { flows: size::flows(), ..Setup::plain(Attach::Tcx) });
    deafen();
    let mut figures = Figures::new("flood");
    let echo = within("pod-b", || serve("10.244.1.3:8080"));
    let talks = [talk("pod-c", "10.244.1.3", 8080), talk("outside", "172.31.0.11", 30_080)];
    // All connections are established before the first forged packet.
    thread::sleep(Duration::from_secs(2));
    let against_pod = flood("pod-a", &pod_frames(), time);
    let half_open = lab.rows(map::HALFOPEN.name);
    let against_service = flood("outside", &service_frames(), time);
    thread::sleep(Duration::from_millis(500));
    let outcomes: Vec<Outcome> = talks.into_iter().map(Talk::end).collect();
    for (name, sent) in [("a pod", against_pod), ("a Service (node port)", against_service)] {
        let rate = sent as f64 / time.as_secs_f64();
        figures
            .add(&format!("SYN packets against {name}"), format!("{sent} in {} s, {rate:.0} a second", time.as_secs()));
    }
    let answered: u64 = outcomes.iter().map(|outcome| outcome.answered).sum();
    let longest = outcomes.iter().map(|outcome| outcome.longest_ms).max().unwrap();
    let broken: Vec<&String> = outcomes.iter().flat_map(|outcome| &outcome.broken).collect();
    figures.add("established connections, broken", format!("{CONNECTIONS}, {}", broken.len()));
    figures.add("messages answered on them, slowest", format!("{answered}, {longest} ms"));
    figures.add(
        "rows of HALFOPEN and FLOWS, each of",
        format!("{half_open}, {}, {}", lab.rows(map::FLOWS.name), size::flows()),
    );
    figures.keep();
    println!("dropped:\n{}", lab.drops());
    assert!(broken.is_empty(), "{broken:?}\n{}", lab.drops());
    assert!(answered >= u64::from(CONNECTIONS), "{answered} messages were answered");
    drop(echo);
}

/// Nobody refuses what comes back to the forged senders: it goes to a machine that is none of them, and the pod that floods
/// has no way to the pod that answers.
fn deafen() {
    ip("-n pod-a route add blackhole 10.244.1.3/32");
    let outside = link_address("outside").map(|byte| format!("{byte:02x}")).join(":");
    for number in 0..FORGED {
        ip(&format!("-n node-1 neigh add 172.31.0.{} lladdr {outside} dev eth0 nud permanent", 128 + number));
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

/// By two threads, each with frames of its own.
fn flood(namespace: &'static str, frames: &[Vec<u8>], time: Duration) -> u64 {
    let halves: Vec<Vec<Vec<u8>>> = frames.chunks(frames.len().div_ceil(2)).map(<[_]>::to_vec).collect();
    let running: Vec<JoinHandle<u64>> = halves
        .into_iter()
        .map(|frames| within(namespace, move || wire::pour("eth0", &frames, time).unwrap()))
        .collect();
    running.into_iter().map(|thread| thread.join().unwrap()).sum()
}

fn frame(text: &str, from: [u8; 6]) -> Vec<u8> {
    Make {
        tuple: tuple(text),
        proto: TCP,
        flags: SYN,
        ttl: 64,
        link: [GATEWAY_MAC, from],
        unsummed: false,
        extensions: &[],
    }
    .bytes()
}

/// From pod A to pod B: the anti-spoofing leaves it its own address and any port.
fn pod_frames() -> Vec<Vec<u8>> {
    (0..FRAMES).map(|n| frame(&format!("10.244.1.2:{} > 10.244.1.3:8080", 1024 + n), world::mac(world::A))).collect()
}

/// From forged machines outside to the node port, over the first node's own link address.
fn service_frames() -> Vec<Vec<u8>> {
    let to = link_address("node-1");
    let from = link_address("outside");
    (0..FRAMES)
        .map(|n| {
            let mut bytes = frame(&format!("172.31.0.{}:{} > 172.31.0.11:30080", 128 + n % FORGED, 1024 + n), from);
            bytes[..6].copy_from_slice(&to);
            bytes
        })
        .collect()
}

/// `eth0`'s in a namespace.
fn link_address(namespace: &str) -> [u8; 6] {
    let output = Command::new("ip").args(["-n", namespace, "-o", "link", "show", "eth0"]).output().expect("iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let word = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a link address");
    let bytes: Vec<u8> = word.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
