//! What only time brings about: expiry and promotion. On the model alone, whose clock can be set.
use super::{
    Model,
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test},
    world::{A, B, NIC, POD_A, POD_B, service},
};
use abi::{DropReason, flow::PROMOTED, timeout::Timeout};
use datapath::parse::{TCP, UDP};

const HZ: u64 = 250;

fn later(t: &mut Test<Model>, seconds: u64) {
    t.0.change(|node| node.now += seconds * HZ);
}

#[track_caller]
fn tables(t: &Test<Model>, flows: usize, half_open: usize) {
    let node = &t.0.0;
    assert_eq!((node.flows.borrow().len(), node.half_open.borrow().len()), (flows, half_open));
    assert!(node.flows.borrow().values().all(|value| value.flags & PROMOTED != 0));
}

const THERE: (From, &str, Seen, &str) =
    (From::Pod(A), "10.244.1.2:1 > 10.96.0.10:80", Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:8080");
const BACK: (From, &str, Seen, &str) =
    (From::Pod(B), "10.244.1.3:8080 > 10.244.1.2:1", Seen::Pod(A), "10.96.0.10:80 > 10.244.1.2:1");

#[test]
fn tcp_is_promoted_by_the_handshake() {
    let mut t = Test::<Model>::new();
    t.tcp(THERE.0, THERE.1, SYN);
    t.tcp(THERE.0, THERE.1, ACK); // Nothing has come back.
    tables(&t, 0, 2);
    t.tcp(BACK.0, BACK.1, SYN_ACK);
    tables(&t, 0, 2);
    t.tcp(THERE.0, THERE.1, ACK);
    tables(&t, 2, 0);
}

#[test]
fn a_full_table_promotes_nobody_and_drops_nothing() {
    let mut t = Test::<Model>::new();
    t.change(|node| node.flow_room = Some(1));
    t.connect(THERE, BACK);
    tables(&t, 0, 2);
}

/// Four rows for pod A: two translated connections, or four that are not.
#[test]
fn a_pod_with_its_share_keeps_no_other_out() {
    let mut t = Test::<Model>::new();
    t.change(|node| node.settings.flows_per_pod = 4);
    let open = |t: &mut Test<Model>, text: &str, from: u32, to: u32| {
        let (source, destination) = text.split_once(" > ").unwrap();
        let back = format!("{destination} > {source}");
        t.tcp(From::Pod(from), text, SYN).gives(Seen::Pod(to), text);
        t.tcp(From::Pod(to), &back, SYN_ACK).gives(Seen::Pod(from), &back);
        t.tcp(From::Pod(from), text, ACK).gives(Seen::Pod(to), text);
    };
    t.connect(THERE, BACK);
    for client in 2..6 {
        open(&mut t, &format!("10.244.1.2:{client} > 10.244.1.3:80"), A, B);
    }
    tables(&t, 4, 2); // The last two are served all the same.
    open(&mut t, "10.244.1.3:1 > 10.244.1.2:80", B, A);
    tables(&t, 5, 2);
    assert_eq!(*t.0.0.pod_flows.borrow(), [(POD_A, 4), (POD_B, 1)].into());
    // With room again, the next packet of a connection that waits for it is enough.
    t.0.0.pod_flows.borrow_mut().insert(POD_A, 3);
    t.tcp(From::Pod(A), "10.244.1.2:5 > 10.244.1.3:80", ACK);
    tables(&t, 6, 1);
}

#[test]
fn timeouts_are_the_nodes_own() {
    let mut t = Test::<Model>::new();
    t.change(|node| node.settings.timeouts.0[Timeout::TcpEstablished as usize] = 100);
    t.connect(THERE, BACK);
    t.change(|node| service(node, 20, "10.96.0.10:80", TCP, &[("10.244.1.3:9090", POD_B, 1)]));
    later(&mut t, 99);
    t.tcp(THERE.0, THERE.1, ACK).gives(THERE.2, THERE.3);
    later(&mut t, 101);
    t.tcp(THERE.0, THERE.1, ACK).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:9090");
}

#[test]
fn udp_is_promoted_by_packets_both_ways_over_two_seconds() {
    let mut t = Test::<Model>::new();
    let (there, back) = ("10.244.1.2:1 > 10.244.1.3:53", "10.244.1.3:53 > 10.244.1.2:1");
    t.udp(From::Pod(A), there);
    later(&mut t, 3);
    t.udp(From::Pod(A), there);
    tables(&t, 0, 1);
    t.udp(From::Pod(B), back);
    tables(&t, 1, 0);
    t.udp(From::Pod(A), "10.244.1.2:2 > 10.244.1.3:53");
    t.udp(From::Pod(B), "10.244.1.3:53 > 10.244.1.2:2");
    tables(&t, 1, 1);
}

#[test]
fn udp_is_promoted_by_sixteen_packets_both_ways() {
    let mut t = Test::<Model>::new();
    let (there, back) = ("10.244.1.2:1 > 10.244.1.3:53", "10.244.1.3:53 > 10.244.1.2:1");
    for _ in 0..20 {
        t.udp(From::Pod(A), there);
    }
    tables(&t, 0, 1); // Nobody answers.
    t.udp(From::Pod(B), back);
    tables(&t, 1, 0);
    for _ in 0..8 {
        t.udp(From::Pod(A), "10.244.1.2:2 > 10.244.1.3:53");
        t.udp(From::Pod(B), "10.244.1.3:53 > 10.244.1.2:2");
    }
    tables(&t, 1, 1);
    t.udp(From::Pod(A), "10.244.1.2:2 > 10.244.1.3:53");
    tables(&t, 2, 0);
}

#[test]
fn an_expired_flow_is_new() {
    let mut t = Test::<Model>::new();
    t.connect(THERE, BACK);
    t.change(|node| service(node, 20, "10.96.0.10:80", TCP, &[("10.244.1.3:9090", POD_B, 1)]));
    later(&mut t, 3_600);
    t.tcp(THERE.0, THERE.1, ACK).gives(THERE.2, THERE.3);
    later(&mut t, 20_000);
    t.tcp(THERE.0, THERE.1, ACK).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:9090");
}

/// What the network doubles goes where the first one went.
#[test]
fn a_syn_is_sent_again_after_a_second() {
    let mut t = Test::<Model>::new();
    let other = |t: &mut Test<Model>, id| {
        t.change(|node| service(node, id, "10.96.0.20:80", TCP, &[(&format!("10.244.1.3:{id}"), POD_B, 1)]));
    };
    other(&mut t, 20);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.20:80", SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:20");
    other(&mut t, 21);
    for _ in 0..4 {
        t.change(|node| node.now += HZ / 10);
        t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.20:80", SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:20");
    }
    t.change(|node| node.now += HZ / 10);
    t.tcp(From::Pod(A), "10.244.1.2:1 > 10.96.0.20:80", SYN).gives(Seen::Pod(B), "10.244.1.2:1 > 10.244.1.3:21");
}

/// Who is given the reply key of a flow that is over must not get what the old one still sends.
#[test]
fn a_key_that_changes_hands_ends_the_old_flow() {
    let mut t = Test::<Model>::new();
    t.change(|node| (node.settings.masquerade_first, node.settings.masquerade_last) = (61_000, 61_000));
    let (there, out) = ("10.244.1.2:1 > 172.31.0.2:80", "172.31.0.11:61000 > 172.31.0.2:80");
    let (back, home) = ("172.31.0.2:80 > 172.31.0.11:61000", "172.31.0.2:80 > 10.244.1.2:1");
    t.connect((From::Pod(A), there, Seen::Nic(NIC), out), (From::Nic, back, Seen::Pod(A), home));
    later(&mut t, 20_000);
    t.tcp(From::Pod(B), "10.244.1.3:1 > 172.31.0.2:80", SYN).gives(Seen::Nic(NIC), out);
    t.tcp(From::Pod(A), there, ACK).drops(DropReason::NoPort);
    t.tcp(From::Nic, back, SYN_ACK).gives(Seen::Pod(B), "172.31.0.2:80 > 10.244.1.3:1");
}

#[test]
fn one_half_keeps_the_other() {
    let mut t = Test::<Model>::new();
    let (there, back) = ("10.244.1.2:9 > 10.96.0.14:53", "10.244.1.3:5353 > 10.244.1.2:9");
    t.udp(From::Pod(A), there);
    t.udp(From::Pod(B), back);
    for _ in 0..20 {
        later(&mut t, 50);
        t.udp(From::Pod(A), there);
    }
    t.udp(From::Pod(B), back).gives(Seen::Pod(A), "10.96.0.14:53 > 10.244.1.2:9");
    later(&mut t, 500);
    t.udp(From::Pod(B), back).gives(Seen::Pod(A), "10.244.1.3:5353 > 10.244.1.2:9"); // A flow of its own now.
}

/// A pod that does not listen is told 50 times at once and then 1,000 times a second; other pods are told all the same.
#[test]
fn answers_are_rationed() {
    let mut t = Test::<Model>::new();
    t.0.change(|node| node.nodes.get_mut(&2).unwrap().mtu = 1_300);
    let told = |t: &mut Test<Model>, from: From, source: &str| {
        let mut packet = Test::<Model>::make(&format!("{source}:1 > 10.244.2.2:53"), UDP, 0).bytes();
        packet.resize(1_400, 0);
        let bytes: [u8; 2] = 1_386_u16.to_be_bytes();
        packet[16..18].copy_from_slice(&bytes);
        (0..200).filter(|_| t.raw(from, &packet).seen == Seen::Reply).count()
    };
    assert_eq!(told(&mut t, From::Pod(A), "10.244.1.2"), 50);
    assert_eq!(told(&mut t, From::Pod(A), "10.244.1.2"), 0);
    assert_eq!(told(&mut t, From::Pod(B), "10.244.1.3"), 50);
    t.0.change(|node| node.now += 5); // 20 ms.
    assert_eq!(told(&mut t, From::Pod(A), "10.244.1.2"), 20);
    later(&mut t, 3_600);
    assert_eq!(told(&mut t, From::Pod(A), "10.244.1.2"), 50);
}
