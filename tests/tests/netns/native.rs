//! Two nodes that reach each other without an outer header: real sockets, a change of ways under traffic, and a stranger
//! on the segment.
use crate::{
    WAYS,
    bench::{addr, v6},
    endpoint,
    exchange::{Exchange, tcp, udp, within},
    lab::{Attach, Lab, Setup, mtu, place},
    world::{self, POD_B, rule},
};
use abi::{
    config::FEATURE_NATIVE,
    pod::ISOLATED_INGRESS,
    policy::INGRESS,
    route::{NATIVE, Node as NodeRow, SEGMENT, SPLITS, TAKES_NATIVE},
};
use datapath::{parse::TCP, sim::Node};
use std::{
    net::UdpSocket,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// The row of the other node, with these flags.
fn peer(number: u32, flags: &[[u32; 2]]) -> (u32, NodeRow) {
    let other = 3 - number;
    let address = addr(&format!("172.31.0.1{other}"));
    // What is forwarded for others goes by the overlay in every mode, so a row without its MTU would lose it.
    let splits = if v6() { 0 } else { SPLITS };
    let flags = flags.iter().fold(splits, |all, by_family| all | by_family[usize::from(v6())]);
    (other, NodeRow { tunnel: address, next: [address; 2], generation: 1, flags, mtu: mtu(), ..NodeRow::default() })
}

const ALL: &[[u32; 2]] = &[NATIVE, TAKES_NATIVE, SEGMENT];

fn native(node: &mut Node, number: u32) {
    node.settings.features |= FEATURE_NATIVE;
    let (id, row) = peer(number, ALL);
    node.nodes.insert(id, row);
}

/// A lab whose nodes' tables are changed so.
fn lab(attach: Attach, change: fn(&mut Node, u32)) -> Lab {
    Lab::start(Setup { change, ..Setup::plain(attach) })
}

#[track_caller]
fn every_way(attach: Attach) {
    // With the MTU that the agent gives pods in this mode: over IPv6 they keep the overlay's (ADR 0021).
    let lab = Lab::start(Setup { change: native, full: !v6(), ..Setup::plain(attach) });
    let mut failed = Vec::new();
    for way @ (client, server, at, to, seen) in WAYS {
        let (at, to, seen) = (endpoint(at), endpoint(to), place(seen));
        let before = lab.by_device();
        for (name, exchange) in [("tcp", tcp as Exchange), ("udp", udp)] {
            let forwarded = *client == "outside" || to.contains(":300") && client.starts_with("node");
            if name == "udp" && crate::untold(way) {
                continue;
            }
            match exchange(client, server, at, to) {
                Ok(peer) if peer.to_string() == seen => {}
                other => failed.push(format!("{name} {way:?}: {other:?}")),
            }
            if !forwarded && lab.by_device() != before {
                failed.push(format!("{name} {way:?} took the overlay"));
            }
        }
    }
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), lab.drops());
}

#[test]
fn every_way_natively() {
    every_way(Attach::Tcx);
}

#[test]
fn every_way_natively_in_ipv6() {
    crate::bench::speak(true);
    every_way(Attach::Clsact);
}

/// Questions and answers between two pods, one after the other, until told to end: each must come, or the test fails.
struct Talk {
    answered: Arc<AtomicU32>,
    end: Arc<AtomicBool>,
    /// The last question has its answer.
    all: Arc<AtomicBool>,
    ask: std::thread::JoinHandle<std::io::Result<()>>,
    serve: std::thread::JoinHandle<std::io::Result<()>>,
}

impl Talk {
    fn start() -> Talk {
        let (answered, end) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let at = endpoint("10.244.2.2:9000");
        let server = within("pod-c", move || UdpSocket::bind(at)).join().unwrap().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let all = Arc::new(AtomicBool::new(false));
        let over = all.clone();
        let serve = std::thread::spawn(move || {
            let mut bytes = [0; 4];
            while !over.load(SeqCst) {
                if let Ok((_, from)) = server.recv_from(&mut bytes) {
                    server.send_to(&bytes, from)?;
                }
            }
            Ok(())
        });
        let (over, count) = (end.clone(), answered.clone());
        let any = if v6() { "[::]:0" } else { "0.0.0.0:0" };
        let ask = within("pod-a", move || {
            let client = UdpSocket::bind(any)?;
            client.connect(at)?;
            client.set_read_timeout(Some(Duration::from_secs(5)))?;
            for number in 0_u32.. {
                if over.load(SeqCst) {
                    break;
                }
                let mut answer = [0; 4];
                client.send(&number.to_ne_bytes())?;
                client.recv(&mut answer)?;
                assert_eq!(u32::from_ne_bytes(answer), number, "in order and once");
                count.store(number, SeqCst);
            }
            Ok(())
        });
        Talk { answered, end, all, ask, serve }
    }

    /// Returns when `more` questions have been answered since.
    fn go_on(&self, more: u32) {
        let (start, until) = (self.answered.load(SeqCst), Instant::now() + Duration::from_secs(20));
        while self.answered.load(SeqCst) < start + more {
            assert!(Instant::now() < until && !self.ask.is_finished(), "an answer was lost");
            std::thread::yield_now();
        }
    }

    fn end(self) {
        self.end.store(true, SeqCst);
        self.ask.join().unwrap().unwrap();
        self.all.store(true, SeqCst);
        self.serve.join().unwrap().unwrap();
    }
}

/// The change of a running cluster, as docs/routing.md tells it: first every node takes native packets, then one after the
/// other sends so; and back. Nothing is lost, and flows that were there go on.
#[track_caller]
fn changes_over() {
    let mut lab = lab(Attach::Tcx, |node, _| node.settings.features |= FEATURE_NATIVE);
    let talk = Talk::start();
    talk.go_on(50);
    let ready: &[[u32; 2]] = &[TAKES_NATIVE, SEGMENT];
    let steps = [(1, ready), (2, ready), (1, ALL), (2, ALL)];
    for (number, flags) in steps {
        lab.node_row(number, peer(number, flags));
        talk.go_on(50);
    }
    let before = lab.by_device();
    talk.go_on(50);
    assert_eq!(lab.by_device(), before, "all of it is native now");
    for (number, flags) in [(2, ready), (1, ready), (1, &[][..]), (2, &[])] {
        lab.node_row(number, peer(number, flags));
        talk.go_on(50);
    }
    assert!(lab.by_device() > before);
    talk.end();
    let drops = lab.drops();
    let lost: Vec<&str> = drops.lines().filter(|line| !line.ends_with("link_chatter")).collect();
    assert!(lost.is_empty(), "{drops}");
}

#[test]
fn a_change_of_ways_loses_nothing() {
    changes_over();
}

#[test]
fn a_change_of_ways_loses_nothing_in_ipv6() {
    crate::bench::speak(true);
    changes_over();
}

fn isolated(node: &mut Node, number: u32) {
    native(node, number);
    if number == 1 {
        node.peers.insert(addr("10.244.2.2"), 5);
        world::isolate(node, POD_B, ISOLATED_INGRESS);
        rule(node, INGRESS, 5, TCP, 8080, world::ALLOWED);
    }
}

/// A machine on the segment that gives itself a pod's address, and sends to a pod through its node.
fn forge(source: &str) {
    let bits = if v6() { 128 } else { 32 };
    for command in [
        format!("addr replace {}/{bits} dev eth0{}", place(source), if v6() { " nodad" } else { "" }),
        format!("route replace {}/{bits} via {} src {}", place("10.244.1.2"), place("172.31.0.11"), place(source)),
    ] {
        let done =
            Command::new("ip").args(["-n", "outside"]).args(command.split(' ')).output().expect("the ip command");
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let (from, to) = (format!("{source}:5"), "10.244.1.2:6");
    let (from, to) = (endpoint(&from), endpoint(to));
    let sent = within("outside", move || UdpSocket::bind(from)?.send_to(b"forged", to));
    sent.join().unwrap().unwrap();
}

#[track_caller]
fn judged_on_both_ends() {
    let lab = lab(Attach::Tcx, isolated);
    let to = |port: u16| endpoint(&format!("10.244.1.3:{port}"));
    // Whoever serves sees the pod's own address: nothing is masqueraded on the way.
    let seen = tcp("pod-c", "pod-b", to(8080), to(8080)).unwrap();
    assert_eq!(seen.to_string(), place("10.244.2.2"), "{}", lab.drops());
    tcp("pod-c", "pod-b", to(8081), to(8081)).unwrap_err();
    tcp("pod-a", "pod-b", to(8080), to(8080)).unwrap_err();
    let refused = lab.drops();
    assert!(refused.contains("node-1 from_netdev") && refused.contains("policy_denied_ingress"), "{refused}");
    for (source, reason) in [
        ("10.244.2.77", "native_source"),
        ("10.244.1.9", "own_address_from_outside"),
        ("10.96.0.10", "own_address_from_outside"),
    ] {
        let before = dropped(&lab, reason);
        forge(source);
        let until = Instant::now() + Duration::from_secs(5);
        while dropped(&lab, reason) == before {
            assert!(Instant::now() < until, "a packet from {source} is not dropped as {reason}: {}", lab.drops());
            std::thread::yield_now();
        }
    }
}

/// How often node 1 has dropped at its NIC for this reason.
fn dropped(lab: &Lab, reason: &str) -> u64 {
    let text = lab.drops();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("node-1 from_netdev: ")?.strip_suffix(reason)?.trim().parse().ok());
    line.unwrap_or(0)
}

#[test]
fn native_packets_are_judged_on_both_ends() {
    judged_on_both_ends();
}

#[test]
fn native_packets_are_judged_on_both_ends_in_ipv6() {
    crate::bench::speak(true);
    judged_on_both_ends();
}
