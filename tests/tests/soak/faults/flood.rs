//! A table of flows is full: a pod's datagrams from thousands of ports, each echoed and promoted after its time, until no row
//! is left. Bounded in count and time.
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use super::{
    NODES,
    bed::{Bed, Pod, STEADY},
};

/// Who floods, and who echoes: on two nodes, so that both fill their tables.
pub(crate) const FLOODER: &str = "flooder";
pub(crate) const FLOODED: &str = "flooded";
/// More flows than the tables have rows ([`super::ROWS`]).
const FLOWS: u16 = 5_000;
const FIRST_PORT: u16 = 10_000;
/// A flow is promoted when it has gone on for two seconds: a third of that between two passes.
const PASSES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(700);

/// The most rows that a node's `FLOWS` had.
pub(crate) fn fill(bed: &Bed, meanwhile: &mut dyn FnMut()) -> u64 {
    let pods: Vec<Pod> = bed.settled().into_iter().filter(|pod| pod.namespace == STEADY).collect();
    let find = |name: &str| pods.iter().find(|pod| pod.name == name).expect("a pod of the fixture");
    let (from, to) = (find(FLOODER), find(FLOODED));
    let netns = bed.pod_netns(from).expect("it runs");
    let mut most = 0;
    for pass in 0..PASSES {
        let begun = Instant::now();
        netns.run(|| pass_of(from.address, SocketAddr::new(to.address, 8083))).unwrap();
        if pass == PASSES / 2 {
            meanwhile();
        }
        thread::sleep(BETWEEN.saturating_sub(begun.elapsed()));
        most = NODES.into_iter().filter_map(|node| rows(bed, node)).fold(most, u64::max);
    }
    most
}

/// Some at once, and a rest for who shares the processor.
fn pass_of(from: IpAddr, to: SocketAddr) {
    for number in 0..FLOWS {
        let socket = UdpSocket::bind((from, FIRST_PORT + number)).expect("a free port");
        socket.send_to(b"one of many", to).expect("room in the device's queue");
        if number % 64 == 63 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn rows(bed: &Bed, node: &str) -> Option<u64> {
    let text = bed.asked(node, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix("weft_table_entries{table=\"FLOWS\"} "))?;
    line.trim().parse().ok()
}
