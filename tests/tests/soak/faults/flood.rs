//! A table of flows is full: a pod's datagrams from thousands of ports, each echoed and promoted after its time, until no row
//! is left. Bounded in count and time.
use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use abi::config::GATEWAY_MAC;
use datapath::{parse::UDP, sim::frame::Make};

use super::{
    NODES,
    bed::{Bed, Pod, STEADY},
};
use crate::{bench::tuple, wire};

/// Who floods, and who echoes: on two nodes, so that both fill their tables.
pub(crate) const FLOODER: &str = "flooder";
pub(crate) const FLOODED: &str = "flooded";
/// More flows than the tables have rows ([`super::ROWS`]).
const FLOWS: u32 = 5_000;
/// A flow is promoted when it has gone on for two seconds: a third of that between two passes.
const PASSES: u32 = 5;
const BETWEEN: Duration = Duration::from_millis(700);

/// The most rows that a node's `FLOWS` had.
pub(crate) fn fill(bed: &Bed, meanwhile: &mut dyn FnMut()) -> u64 {
    let pods: Vec<Pod> = bed.settled().into_iter().filter(|pod| pod.namespace == STEADY).collect();
    let find = |name: &str| pods.iter().find(|pod| pod.name == name).expect("a pod of the fixture");
    let (from, to) = (find(FLOODER), find(FLOODED));
    let mac = mac_of(bed, from);
    let frames: Vec<Vec<u8>> = (0..FLOWS)
        .map(|number| {
            let source = SocketAddr::new(from.address, (10_000 + number) as u16);
            let text = format!("{source} > {}:8083", to.address);
            let link = [GATEWAY_MAC, mac];
            Make { tuple: tuple(&text), proto: UDP, flags: 0, ttl: 64, link, unsummed: false, extensions: &[] }.bytes()
        })
        .collect();
    let netns = bed.pod_netns(from).expect("it runs");
    let mut most = 0;
    for pass in 0..PASSES {
        let begun = Instant::now();
        netns.run(|| pass_of(&frames)).unwrap();
        if pass == PASSES / 2 {
            meanwhile();
        }
        thread::sleep(BETWEEN.saturating_sub(begun.elapsed()));
        most = NODES.into_iter().filter_map(|node| rows(bed, node)).fold(most, u64::max);
    }
    most
}

/// Some at once, and a rest for who shares the processor.
fn pass_of(frames: &[Vec<u8>]) {
    for some in frames.chunks(64) {
        wire::pour("eth0", some, Duration::from_micros(200)).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
}

fn rows(bed: &Bed, node: &str) -> Option<u64> {
    let text = bed.asked(node, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix("weft_table_entries{table=\"FLOWS\"} "))?;
    line.trim().parse().ok()
}

fn mac_of(bed: &Bed, pod: &Pod) -> [u8; 6] {
    let netns = bed.pod_netns(pod).expect("it runs");
    let text = super::bed::in_netns(&netns, "ip -o link show eth0");
    let word = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a link address");
    let bytes: Vec<u8> = word.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
