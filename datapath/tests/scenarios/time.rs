//! What only time brings about: expiry and promotion. On the model alone, whose clock can be set.
use super::{
    Model,
    bench::{ACK, Bench, From, SYN, SYN_ACK, Seen, Test},
    world::{A, B, POD_B, service},
};
use abi::flow::PROMOTED;
use datapath::parse::TCP;

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
    tables(&t, 2, 2); // It ages out of the other table.
}

#[test]
fn a_full_table_promotes_nobody_and_drops_nothing() {
    let mut t = Test::<Model>::new();
    t.change(|node| node.flow_room = Some(1));
    t.connect(THERE, BACK);
    tables(&t, 0, 2);
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
    tables(&t, 1, 1);
    t.udp(From::Pod(A), "10.244.1.2:2 > 10.244.1.3:53");
    t.udp(From::Pod(B), "10.244.1.3:53 > 10.244.1.2:2");
    tables(&t, 1, 2);
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
