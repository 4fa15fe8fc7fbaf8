//! The table of established flows: each pod's share of it, a full one, and the sweep.
use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    time::Instant,
};

use abi::{
    Addr,
    flow::{Count, FlowKey, FlowValue, Leg, NEXT_POD},
    map,
    timeout::Timeouts,
};
use agent::{flows::Flows, load};
use agent_api::{
    AgentClient,
    v1::{Event, MonitorRequest, StatusRequest},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Node, SECOND, on_a_node, reaches, serve};

/// A pod that is not there, whose flows fill the table.
const GREEDY: u32 = 1_999;

/// Writes so many rows into `FLOWS`. Every one is in use, or every second one has long expired.
fn write(bpffs: &Path, count: u32, expired: bool) {
    let table = load::open(&load::flows_dir(bpffs), &map::FLOWS).expect("it is there");
    let back = Leg { target: GREEDY, next: NEXT_POD, ..Leg::default() };
    let row = |number: u32| {
        let key = FlowKey { low: Addr::v4(number), high: Addr::v4(number), proto: 6, ..FlowKey::default() };
        let last = if expired && number % 2 == 1 { 0 } else { u64::MAX / 2 };
        let up = Count { last, ..Count::default() };
        (key, FlowValue { legs: [Leg::default(), back], up, ..FlowValue::default() })
    };
    for begin in (0..count).step_by(10_000) {
        let rows: Vec<_> = (begin..count.min(begin + 10_000)).map(row).collect();
        let rows = rows.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes()));
        table.put_batch(rows).map_err(|(_, error)| error).expect("there is room");
    }
}

fn used(bpffs: &Path) -> u32 {
    load::open(&load::flows_dir(bpffs), &map::FLOWS).expect("it is there").count().expect("counted")
}

fn share(bpffs: &Path, pod: u32) -> u64 {
    let shares = load::open(&load::maps_dir(bpffs), &map::POD_FLOWS).expect("it is there");
    let row = shares.get(pod.as_bytes()).expect("read").expect("an array's row");
    u64::read_from_bytes(&row).expect("a number")
}

async fn kept(events: &mut tonic::Streaming<Event>, reason: &str) -> Event {
    loop {
        let event = tokio::time::timeout(10 * SECOND, events.message()).await.expect("in time").expect("read");
        let event = event.expect("the stream goes on");
        assert_eq!(event.kind, "half-open");
        if event.reason == reason {
            return event;
        }
    }
}

#[test]
fn nobody_is_refused_for_want_of_room() {
    const FLAGS: &[&str] = &["--flows-per-pod", "1", "--conntrack-timeout", "tcp-closed=1"];
    on_a_node(|directory, _outside| async move {
        let node = Node::start(&directory, FLAGS).await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        let mut agent = AgentClient::new(node.channel().await);
        let status = agent.status(StatusRequest {}).await.expect("served").into_inner();
        let closed = status.timeouts.iter().find(|timeout| timeout.name == "tcp-closed").expect("told");
        assert_eq!((closed.seconds, status.timeouts.len(), status.flows_per_pod), (1, 9, 1));
        let request = MonitorRequest { kinds: vec!["half-open".into()], pod: String::new() };
        let mut events = agent.monitor(request).await.expect("served").into_inner();

        // The first connection has all that pod a may have; others work, half-open.
        let listener = b.within(move || TcpListener::bind((b_address, 9090)).expect("a port"));
        let _first = a.within(move || TcpStream::connect((b_address, 9090)).expect("connected"));
        let _accepted = listener.accept().expect("accepted");
        serve(&b, b_address, 8080);
        reaches(&a, b_address, 8080, a_address);
        let event = kept(&mut events, "pod_quota").await;
        assert_eq!(event.source.map(|end| end.name), Some("default/a".to_owned()));
        // Pod b has a share of its own.
        serve(&a, a_address, 8080);
        reaches(&b, a_address, 8080, b_address);

        // And with the table full they work, too.
        let bpffs = directory.join("bpf");
        let count = map::FLOWS.max_entries - used(&bpffs);
        write(&bpffs, count, false);
        let (c, c_address) = node.pod("c").await;
        reaches(&c, b_address, 8080, c_address);
        let event = kept(&mut events, "table_full").await;
        assert_eq!(event.source.map(|end| end.name), Some("default/c".to_owned()));

        write(&bpffs, count, true);
        let live = u64::from(count.div_ceil(2));
        let begun = Instant::now();
        let flows =
            Flows::open(&load::flows_dir(&bpffs), &load::maps_dir(&bpffs), Timeouts::DEFAULT).expect("it is there");
        let removed = flows.sweep().expect("swept");
        println!("a sweep of the full table took {:?} and removed {removed} rows", begun.elapsed());
        assert_eq!(share(&bpffs, GREEDY), live);
        let rows = u64::from(used(&bpffs));
        assert!((live..live + 100).contains(&rows), "{rows} rows, {live} of them made here");
    });
}
